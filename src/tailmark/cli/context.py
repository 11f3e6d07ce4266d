"""What commands share: the checkout that they run in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailmark.config import Config
    from tailmark.generate.modes import Tagger
    from tailmark.layout import Arm, Layout


def context() -> tuple[Config, Layout]:
    """The options and the layout of the folder that the command runs in.

    Raises:
        ConfigError, TaxonomyError: the options or the taxonomy are malformed, or do not fit each other.
    """
    from tailmark.config import check_markers, load_config
    from tailmark.layout import Layout
    from tailmark.taxonomy import load_taxonomy

    root = Path.cwd()
    config = load_config(root / "params.yaml")
    if (root / config.taxonomy.file).exists():  # a stage that reads it says that it is missing
        check_markers(config, load_taxonomy(root / config.taxonomy.file))
    return config, Layout(root)


def arm_named(name: str) -> Arm:
    """The arm of this name.

    Raises:
        ConfigError: there is none.
    """
    from tailmark.errors import ConfigError
    from tailmark.layout import ARMS

    for arm in ARMS:
        if name == arm:
            return arm
    raise ConfigError(f"There is no arm '{name}'.", where="--arm", fix=f"use one of: {', '.join(ARMS)}")


def taxonomy_file() -> Path:
    """The taxonomy of the folder that the command runs in."""
    from tailmark.config import load_config

    return Path.cwd() / load_config(Path.cwd() / "params.yaml").taxonomy.file


def tagger() -> Tagger:
    """Reads prompts with the annotators that need no answer."""
    from tailmark.annotate.onthefly import OnTheFly
    from tailmark.taxonomy import load_taxonomy

    config, layout = context()
    reader = OnTheFly(load_taxonomy(layout.root / config.taxonomy.file), config.annotate.llm, layout.state)
    return lambda prompts: [{name: item.value for name, (item, _) in found.items()} for found in reader.find(prompts)]
