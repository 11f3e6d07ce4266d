"""The base model as a Hugging Face folder, converted once."""

import os

os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is first imported: our own progress is the only one shown
