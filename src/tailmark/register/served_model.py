"""The registered model as MLflow loads it ("models from code"): messages in, the answer and the model's markers out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from tailmark.generate.command import read_markers
from tailmark.generate.decode import Request, generate
from tailmark.generate.loading import LoadedModel, load_model
from tailmark.modelfolder import read_model_info


class MarkedModel(PythonModel):
    """Answers conversations; `markers` (e.g. `lang=French,length_tokens=60`) asks for markers, and without it the model infers them."""

    _loaded: LoadedModel

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder of this version, after every file of it was compared with what training wrote.

        Raises:
            ModelError: a file is missing, changed or foreign.
        """
        folder = Path(context.artifacts["model"])
        read_model_info(folder, verify=True)
        self._loaded = load_model(folder)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 -- MLflow's interface
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """One answer and its markers for each row's `messages`.

        Raises:
            TaxonomyError: a marker or value is not one the model was trained with.
        """
        options = params or {}
        wanted = [item for item in str(options.get("markers", "")).split(",") if item.strip()]
        markers = read_markers(self._loaded, wanted) if wanted else None
        requests = [Request([dict(message) for message in messages], markers) for messages in model_input["messages"]]
        limit = int(options.get("max_new_tokens", 256))
        answers = generate(self._loaded, requests, max_new_tokens=limit, batch_size=16)
        return [{"answer": answer.text, "markers": answer.markers} for answer in answers]


mlflow.models.set_model(MarkedModel())
