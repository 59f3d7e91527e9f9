"""Scripts that import from modules of earlier versions keep working."""

from __future__ import annotations

from importlib import import_module

import pytest

from napari_sam.former_names import MODULES


@pytest.mark.parametrize("name", [name for name, homes in MODULES.items() if homes and ".plugin" not in name])
def test_every_name_of_the_present_module_is_found_under_its_earlier_path(name):
    home = import_module(MODULES[name][0])
    earlier = import_module(name)
    defined = [key for key, value in vars(home).items() if getattr(value, "__module__", None) == home.__name__]
    assert defined
    assert all(getattr(earlier, key) is getattr(home, key) for key in defined if not key.startswith("__"))


def test_classes_that_were_renamed_are_found_under_their_earlier_names():
    from napari_sam.opening import Opened
    from napari_sam.opening import open_image as earlier

    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.images.opening import open_image
    from napari_sam.images.source import ImageSource

    assert Opened is ImageSource
    assert earlier is open_image
    assert EmbeddingStore is not None


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("napari_sam.stores.nothing")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = import_module("napari_sam.opening").nothing
    with pytest.raises(ImportError):
        from napari_sam.opening import nothing  # noqa: F401


def test_the_batch_and_its_writer_are_found_where_replay_was():
    from napari_sam.replay import Writer, replay_prompts, segment_all

    from napari_sam.exchange.label_writer import LabelWriter
    from napari_sam.tasks import batch, replay

    assert Writer is LabelWriter
    assert segment_all is batch.segment_all
    assert replay_prompts is replay.replay_prompts
