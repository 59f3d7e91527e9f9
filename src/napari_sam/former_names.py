"""Import paths of earlier versions: scripts that import from modules that have moved keep working."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import ModuleType
from typing import Any

# Earlier module -> present modules, in which its names are looked up in this order.
MODULES = {
    "napari_sam.encoding": ("napari_sam.embeddings.encoder",),
    "napari_sam.everything.grid": ("napari_sam.everything.proposing.grid",),
    "napari_sam.everything.guided": ("napari_sam.everything.proposing.guided",),
    "napari_sam.everything.levels": ("napari_sam.everything.proposing.levels",),
    "napari_sam.everything.seeds": ("napari_sam.everything.proposing.seeds",),
    "napari_sam.export": ("napari_sam.exchange.label_formats",),
    "napari_sam.geo": ("napari_sam.images.rasters.gdal", "napari_sam.images.axes.georeference"),
    "napari_sam.lazy": ("napari_sam.images.lazy.levels",),
    "napari_sam.models.weights": ("napari_sam.models.safe_load", "napari_sam.models.checkpoints"),
    "napari_sam.opening": ("napari_sam.images.opening",),
    "napari_sam.plugin.adapters": ("napari_sam.plugin.layers.adapters",),
    "napari_sam.plugin.widget": ("napari_sam.plugin.widgets.dock",),
    "napari_sam.prompt_files": ("napari_sam.exchange.prompts",),
    "napari_sam.replay": ("napari_sam.tasks.replay", "napari_sam.tasks.batch", "napari_sam.exchange.label_writer"),
    "napari_sam.searched_image": ("napari_sam.finding.searched_image",),
    "napari_sam.search": ("napari_sam.tasks.find",),
    "napari_sam.stores": (),
    "napari_sam.stores.journal": ("napari_sam.journal.journal",),
    "napari_sam.stores.labels": ("napari_sam.labels.array",),
    "napari_sam.stores.pyramid": ("napari_sam.labels.pyramid",),
    "napari_sam.stores.targets": ("napari_sam.labels.array",),
    "napari_sam.volume": ("napari_sam.images.volume",),
}
# Earlier name of a class or function -> present name.
NAMES = {
    "DiskStore": "EmbeddingStore",
    "LabelStore": "LabelArray",
    "LabelTarget": "LabelArray",
    "Opened": "ImageSource",
    "Writer": "LabelWriter",
    "recognise": "detect_architecture",
}

# Earlier member of the plugin's `Controller` -> the part that has it now.
CONTROLLER = {
    "accept": "commits.accept",
    "accepting": "commits",
    "activate": "editing.activate",
    "ahead": "prefetcher",
    "asking": "requests",
    "candidates": "session.candidates",
    "channels": "session.channels",
    "choose_size": "editing.choose_size",
    "clear": "editing.clear",
    "cycle": "editing.cycle",
    "image": "session.image",
    "in_hand": "editing",
    "is_begun": "session.is_begun",
    "is_writing": "session.is_writing",
    "open": "session.drafts",
    "output": "label_layers",
    "points": "prompts.points",
    "seen": "encoder_view",
    "set_image": "session.set_image",
    "set_model": "session.set_model",
    "set_status": "session.set_status",
    "set_store": "session.set_store",
    "set_target": "session.set_target",
    "shapes": "prompts.shapes",
    "status": "session.status",
    "target": "session.target",
    "tool": "prompts.tool",
    "undoing": "undo",
}


class FormerNames(MetaPathFinder, Loader):
    """Find modules under the names that they had in earlier versions."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=not MODULES[fullname])

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty: its attributes are looked up when they are asked for."""


class _Moved(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for home in map(import_module, MODULES[self.__name__]):
                for present in (name, NAMES.get(name)):
                    if present is not None and hasattr(home, present):
                        return getattr(home, present)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def install() -> None:
    """Let `import` find modules under their earlier names, after every other way to find them has failed."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())


def member_of_controller(controller: Any, name: str) -> Any:
    """Return the part or value that a member of the plugin's controller had in earlier versions.

    Raises
    ------
    AttributeError
        The controller had no such member.
    """
    if name not in CONTROLLER:
        raise AttributeError(f"{type(controller).__name__!r} object has no attribute {name!r}")
    return attrgetter(CONTROLLER[name])(controller)
