"""What SAM 2 remembers of one object, with the memory network of the transformers library."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.following.memory import MemoryAnswer, SeenObject
from napari_sam.core.predictor import Embedding
from napari_sam.models.sam2.decoding import resized

# What is remembered of one plane: features for the memory attention, and the object pointer.
Memory = dict[str, Tensor]


class MemoryNetwork:
    """The network with what all objects share.

    Parameters
    ----------
    network
        `Sam2VideoModel` of transformers; its image encoder is not used.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        config = network.config
        self.feature_planes = int(config.num_maskmem) - 1
        self.pointer_planes = int(config.max_object_pointers_in_encoder) - 1
        self.grid: tuple[int, int] = tuple(network.backbone_feature_sizes[-1])
        make_positions = type(network.memory_encoder.position_encoding)
        shape = torch.Size((1, network.hidden_dim, *self.grid))
        weight = network.no_memory_embedding
        encode = make_positions(num_position_features=network.hidden_dim // 2, normalize=True)
        self.positions = _flat(encode(shape, weight.device, weight.dtype))
        # The same in all planes: stored once.
        encode, shape = network.memory_encoder.position_encoding, torch.Size((1, network.mem_dim, *self.grid))
        self.memory_positions = _flat(encode(shape, weight.device, weight.dtype))

    def features(self, embedding: Embedding) -> tuple[Tensor, list[Tensor]]:
        """Return the coarse features as they leave the image encoder, and the finer ones, the finest first."""
        coarse, *fine = embedding.tensors[:3]
        # Embeddings are stored for prompts on single images, where the library adds this.
        return coarse - self.network.no_memory_embedding.reshape(1, -1, 1, 1), fine[::-1]

    def remembered(self, coarse: Tensor, output: Any, *, is_given: bool) -> Memory:
        """Return what is remembered of a plane.

        Parameters
        ----------
        coarse
            The coarse features of the plane, as they leave the image encoder.
        output
            The mask, as the library's mask decoder returns it.
        is_given
            Whether the user accepted the mask.
        """
        features, _ = self.network._encode_new_memory(
            _flat(coarse), output.high_res_masks, output.object_score_logits, is_mask_from_pts=is_given
        )
        positions, pointer = self.memory_positions, output.object_pointer
        return {"maskmem_features": features, "maskmem_pos_enc": positions, "object_pointer": pointer}

    def seen(self, seen: SeenObject, *, is_given: bool) -> Memory:
        """Return what is remembered of a plane in which the mask is known."""
        embedding, coverage = seen
        coarse, fine = self.features(embedding)
        mask = torch.from_numpy(np.ascontiguousarray(coverage)).to(coarse.device)[None, None]
        return self.remembered(coarse, self.network._use_mask_as_output(coarse, fine, mask), is_given=is_given)


class Sam2Memory:
    """The memory of one object in one direction; see `ObjectMemory`.

    It holds the closest accepted planes, the features of the last planes and the object pointers of some more.

    Parameters
    ----------
    shared
        The network.
    accepted, planes, reverse
        See `MemoryPredictor.memory`.

    Attributes
    ----------
    reach
        Number of planes, the last ones before the present one, of which it holds features.
    """

    def __init__(
        self, shared: MemoryNetwork, accepted: Mapping[int, Callable[[], SeenObject]], *, planes: int, reverse: bool
    ) -> None:
        self.reach = shared.feature_planes
        self._shared, self._planes, self._reverse = shared, planes, reverse
        self._accepted = dict(sorted(accepted.items()))
        self._known: dict[int, Memory] = {}
        self._followed: dict[int, Memory] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of what is remembered."""
        memories = [*self._known.values(), *self._followed.values()]
        positions = self._shared.memory_positions
        return sum(tensor.nbytes for memory in memories for tensor in memory.values() if tensor is not positions)

    @torch.inference_mode()
    def recall(self, at: int, seen: SeenObject) -> None:
        """Take what was found of the object in an earlier plane; see `ObjectMemory`."""
        self._followed[at] = self._shared.seen(seen, is_given=False)

    @torch.inference_mode()
    def follow(self, at: int, embedding: Embedding) -> MemoryAnswer:
        """Find the object in a plane, and remember the answer; see `ObjectMemory`."""
        self._fetch_accepted(at)
        self._forget(at)
        network = self._shared.network
        coarse, fine = self._shared.features(embedding)
        conditioned = network._prepare_memory_conditioned_features(
            inference_session=self._session(),
            frame_idx=at,
            obj_idx=0,
            is_initial_conditioning_frame=False,
            current_vision_features=_flat(coarse),
            current_vision_positional_embeddings=self._shared.positions,
            num_total_frames=self._planes,
            track_in_reverse_time=self._reverse,
        )
        output = network._single_frame_forward(
            image_embeddings=[*fine, conditioned], multimask_output=network._use_multimask(False, None)
        )
        self._followed[at] = self._shared.remembered(coarse, output, is_given=False)
        return _answer(output, embedding)

    def _session(self) -> SimpleNamespace:
        """Return what the library's memory reads of its session."""
        outputs = {"cond_frame_outputs": self._known, "non_cond_frame_outputs": self._followed}
        return SimpleNamespace(output_dict_per_obj={0: outputs}, dtype=torch.float32)

    def _fetch_accepted(self, at: int) -> None:
        """Hold the accepted planes that the memory attends to in this plane, the closest ones."""
        network = self._shared.network
        chosen, _ = network._select_closest_cond_frames(at, self._accepted, network.config.max_cond_frame_num)
        wanted = {*chosen, *(near for near in self._behind(at, self.reach) if near in self._accepted)}
        for position in wanted:
            if "maskmem_features" not in self._known.get(position, ()):
                self._known[position] = self._shared.seen(self._accepted[position](), is_given=True)
        # In order, because of planes at the same distance the library chooses the first.
        self._known = dict(sorted(self._bounded(self._known, wanted, at).items()))

    def _forget(self, at: int) -> None:
        """Keep the features of the last planes, and the object pointers of some more."""
        self._followed = self._bounded(self._followed, self._behind(at, self.reach), at)

    def _bounded(self, memories: dict[int, Memory], wanted: Container[int], at: int) -> dict[int, Memory]:
        """Return what is wanted, and the object pointers of the last planes; nothing of other planes."""
        far = self._behind(at, self._shared.pointer_planes)
        pointers = {p: {"object_pointer": memory["object_pointer"]} for p, memory in memories.items() if p in far}
        return {**pointers, **{p: memory for p, memory in memories.items() if p in wanted}}

    def _behind(self, at: int, count: int) -> range:
        """Return the positions of the last planes before one."""
        return range(at + 1, at + 1 + count) if self._reverse else range(at - count, at)


def _flat(features: Tensor) -> Tensor:
    """Return features (1, channels, rows, cols) as the library's memory takes them, (rows * cols, 1, channels)."""
    return features.flatten(2).permute(2, 0, 1)


def _answer(output: Any, embedding: Embedding) -> MemoryAnswer:
    side = embedding.tensors[-1].shape[-1]
    logits: NDArray[np.float32] = resized(output.pred_masks[0], (side, side))[0].float().cpu().numpy()
    return MemoryAnswer(
        logits,
        float(output.iou_scores.max().clamp(0, 1)),
        float(output.object_score_logits.sigmoid().max()),
    )
