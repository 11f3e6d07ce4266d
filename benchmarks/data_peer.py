"""Peers of the near-duplicate search on the same rows as `python -m benchmarks.data near FOLDER --rows N`, on one core.

Needs nothing of tailmark, so it runs in an environment of its own:
    pip install datasketch "datatrove[processing]"
    python benchmarks/data_peer.py datasketch FOLDER --rows 20000
    python benchmarks/data_peer.py datatrove FOLDER --rows 20000
"""

from __future__ import annotations

import argparse
import glob
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

PERMUTATIONS, SHINGLE, BANDS, BAND_ROWS = 128, 5, 18, 7


def texts(root: Path, rows: int) -> list[str]:
    """The texts of the first rows of a folder that `benchmarks.data make` wrote."""
    return list(islice(_all_texts(root), rows))


def _all_texts(root: Path) -> Iterator[str]:
    for path in sorted(glob.glob(str(root / "sources" / "*.jsonl"))):
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield f"{row['question']}\n{row['answer']}"


def datasketch(found: list[str]) -> int:
    """Rows that datasketch's MinHash and LSH hold for a near-duplicate of an earlier one, compared exactly as ours are."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND_ROWS))
    sets: list[set[bytes]] = []
    near = 0
    for number, text in enumerate(found):
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[start : start + SHINGLE]).encode() for start in range(max(len(words) - SHINGLE + 1, 1))}
        sets.append(runs)
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch(runs)
        similar = (len(runs & sets[other]) / len(runs | sets[other]) for other in map(int, index.query(signature)))
        if any(similarity >= 0.8 for similarity in similar):
            near += 1
        else:
            index.insert(str(number), signature)
    return near


def datatrove(found: list[str]) -> int:
    """Rows that datatrove's four MinHash steps would remove (it does not compare candidates)."""
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    folder = tempfile.mkdtemp()
    config = MinhashConfig(n_grams=SHINGLE, num_buckets=BANDS, hashes_per_bucket=BAND_ROWS, hash_config=HashConfig(precision=64))
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(found)]
    steps = [
        [documents, MinhashDedupSignature(output_folder=f"{folder}/signatures", config=config, language="eng")],
        [MinhashDedupBuckets(input_folder=f"{folder}/signatures", output_folder=f"{folder}/buckets", config=config)],
        [MinhashDedupCluster(input_folder=f"{folder}/buckets", output_folder=f"{folder}/remove", config=config)],
    ]
    for number, pipeline in enumerate(steps):
        tasks = BANDS if number == 1 else 1
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{number}").run()
    removed = sum(path.stat().st_size // 4 for path in Path(folder, "remove").glob("*.remove"))
    shutil.rmtree(folder)
    return removed


def main() -> None:
    """Run one peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=("datasketch", "datatrove"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    arguments = parser.parse_args()
    found = texts(arguments.folder, arguments.rows)
    start = time.process_time()
    near = {"datasketch": datasketch, "datatrove": datatrove}[arguments.peer](found)
    seconds = time.process_time() - start
    print(f"{arguments.peer}: {len(found):,} rows, {near:,} near-duplicates, {len(found) / seconds:,.0f} rows/s a core")


if __name__ == "__main__":
    main()
