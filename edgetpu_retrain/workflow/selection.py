"""The backbones and recipes that the configuration names, looked up in the catalogue."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgetpu_retrain.backbone import compiler, kinds
from edgetpu_retrain.backbone.fine_tuned import FineTuned
from edgetpu_retrain.backbone.kinds import Backbone
from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.training import recipes


@dataclass(frozen=True)
class ComparedModel:
    """A backbone and recipe to compare.

    Attributes:
        backbone: name of the backbone.
        recipe: name of the recipe.
        edgetpu_ms: published inference time of the backbone on an Edge TPU in milliseconds; None
            if unknown.
    """

    backbone: str
    recipe: str
    edgetpu_ms: float | None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that belongs to the workflow."""
    text = Path(path).read_text("utf-8")
    content: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def read_catalogue(workflow: Path, name: str) -> dict[str, dict[str, Any]]:
    """Reads workflow/NAME.yaml; paths in it are relative to the folder of the Snakefile.

    Args:
        workflow: the folder of the Snakefile.
        name: name of the catalogue.

    Returns:
        The entries by name, with paths that are valid in the current working directory.
    """
    entries = read_yaml(workflow / "workflow" / f"{name}.yaml")
    if workflow.resolve() != Path.cwd():
        for entry in entries.values():
            for key in {"archive", "compiled", *kinds.KINDS} & entry.keys():
                if isinstance(entry[key], str):
                    entry[key] = os.path.join(workflow, entry[key])
    return entries


class Selection:
    """The configured backbone and recipe, and those to compare.

    Attributes:
        backbones: backbones by name.
        specs: their names or descriptions in the configuration, by name.
        recipes: settings of recipes by name.
        models: combinations of backbone and recipe, the configured one first, without duplicates.
    """

    def __init__(self, settings: Settings, catalogue: Mapping[str, Any]) -> None:
        self.backbones: dict[str, Backbone] = {}
        self.specs: dict[str, str | dict[str, Any]] = {}
        self.recipes: dict[str, dict[str, Any]] = {}
        self.models: list[ComparedModel] = []
        for entry in [None, *settings.compare]:
            spec, training, tuning = settings.backbone, settings.training, settings.fine_tune
            if isinstance(entry, str):
                spec = entry
            elif entry is not None:
                spec = entry.model_extra or entry.backbone or spec
                training = entry.training or training
                if entry.fine_tune:
                    given = entry.fine_tune.model_dump(exclude_unset=True)
                    tuning = tuning.model_copy(update=given)
            if isinstance(spec, str):
                # The configured backbone takes precedence over one of that name in the catalogue.
                spec = self.specs.get(spec, spec)
            backbone = kinds.parse(kinds.resolve(spec, catalogue))
            if self.backbones.setdefault(backbone.name, backbone) != backbone:
                raise UserError(
                    f"config: compare: two different backbones are named {backbone.name!r}. Give "
                    "one of them another name."
                )
            self.specs.setdefault(backbone.name, spec)
            edgetpu_ms = catalogue.get(backbone.name, {}).get("edgetpu_ms")
            if tuning.layers:
                rewritten = tuning.rewrite and not compiler.is_installed(settings.compiler)
                backbone = FineTuned.of(
                    backbone, tuning.layers, rewritten, tuning.mirror, tuning.nested
                )
                if self.backbones.setdefault(backbone.name, backbone) != backbone:
                    raise UserError(
                        f"config: compare: {backbone.name} has different values of nested or "
                        "rewrite. Set these under fine_tune, and not in the entries of compare."
                    )
                self.specs.setdefault(backbone.name, spec)
            recipe = recipes.non_default_settings(training.model_dump(exclude_none=True))
            name = recipes.folder_name(recipe)
            self.recipes[name] = recipe
            model = ComparedModel(backbone.name, name, edgetpu_ms)
            if model not in self.models:
                self.models.append(model)
