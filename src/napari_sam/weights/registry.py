"""The registry of models by name. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from napari_sam.files.folders import models_folder

# The first is that of converted checkpoints.
SUFFIXES = (".safetensors", ".pth", ".pt")

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"
_GWDG = "https://owncloud.gwdg.de/index.php/s"
_SAM_HOME = "https://github.com/facebookresearch/segment-anything"
_SAM2_HOME = "https://github.com/facebookresearch/sam2"
_SAM3_HOME = "https://github.com/facebookresearch/sam3"
_MOBILE_HOME = "https://github.com/ChaoningZhang/MobileSAM"
_HQ_HOME = "https://github.com/SysCV/sam-hq"
_HQ_FILES = "https://huggingface.co/lkeab/hq-sam/resolve/main"
_MEDSAM_HOME = "https://github.com/bowang-lab/MedSAM"
_MICRO_HOME = "https://github.com/computational-cell-analytics/micro-sam"

_APACHE = "Apache-2.0"
_CC_BY = "CC-BY-4.0"
_UNSTATED = "not stated"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the registry.

    Parameters
    ----------
    name
        Name of the model for users.
    family
        Its network, one of `checkpoints.FAMILIES`.
    file
        File of the weights: in this package if the model is shipped, else in `models_folder`.
    licence
        License of the weights, as far as it is known.
    summary
        Images that it is suited to.
    sha256
        Published hash of the file, verified each time before it is loaded; None if none was published.
    source
        URL of the file; None if a program cannot download it.
    homepage
        Page of its authors.
    by_hand
        How to get the file if `source` is None.
    nbytes
        Approximate size of the file; None if it is not known.
    extra
        The optional dependencies of napari-sam that it needs.
    shipped
        Whether the weights are part of the package.
    """

    name: str
    family: str
    file: str
    licence: str
    summary: str
    sha256: str | None = None
    source: str | None = None
    homepage: str = ""
    by_hand: str = ""
    nbytes: int | None = None
    extra: str = ""
    shipped: bool = False

    @property
    def path(self) -> Path:
        """Path of the weights, whether they exist or not: the file named after the model in any readable format.

        Raises
        ------
        ModelError
            NAPARI_SAM_MODELS or NAPARI_SAM_CACHE is not a folder on this computer.
        """
        if self.shipped:
            return Path(str(files("napari_sam.models") / self.file))
        usual = models_folder() / self.file
        others = (usual.with_name(f"{self.name}{suffix}") for suffix in SUFFIXES)
        return next((path for path in (usual, *others) if is_there(path)), usual)

    @property
    def is_here(self) -> bool:
        """Whether the weights are on this computer."""
        return is_there(self.path)


def is_there(path: Path) -> bool:
    """Return whether a file exists; False for a name that is too long, for which `Path.exists` raises."""
    return os.path.exists(path)  # noqa: PTH110


def _published(
    family: str,
    suffix: str,
    summary: str,
    nbytes: int,
    *,
    source: str,
    homepage: str,
    sha256: str | None = None,
    extra: str = "",
) -> ModelEntry:
    """Return a model under Apache-2.0, as its authors published it, named after its network."""
    file = f"{family}{suffix}"
    return ModelEntry(family, family, file, _APACHE, summary, sha256, source, homepage, nbytes=nbytes, extra=extra)


def _sam(family: str, source: str, sha256: str, nbytes: int, summary: str) -> ModelEntry:
    return _published(family, ".pth", summary, nbytes, source=f"{_META}/{source}", homepage=_SAM_HOME, sha256=sha256)


def _hq(size: str, nbytes: int, summary: str) -> ModelEntry:
    published = "tiny" if size == "t" else size
    source = f"{_HQ_FILES}/sam_hq_vit_{published}.pth"
    return _published(f"hq_vit_{size}", ".pth", summary, nbytes, source=source, homepage=_HQ_HOME)


def _sam2(size: str, sha256: str, nbytes: int, summary: str) -> ModelEntry:
    source = f"{_META}_2/092824/sam2.1_hiera_{size}.pt"
    family = f"sam2.1_{size}"
    return _published(family, ".pt", summary, nbytes, source=source, homepage=_SAM2_HOME, sha256=sha256, extra="sam2")


def _micro(name: str, source: str, nbytes: int, licence: str, summary: str) -> ModelEntry:
    family = name[:5]
    return ModelEntry(name, family, f"{name}.pt", licence, summary, None, source, _MICRO_HOME, nbytes=nbytes)


_LM = "Cells in light microscopy"
_EM = "Organelles in electron microscopy"
_PATHO = "Histopathology"

DEFAULT_MODEL = "compact"

# In the order of all lists shown to users, the default first. File sizes are parameters times four.
REGISTRY: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="compact",
            family="compact",
            file="compact/compact.safetensors",
            licence=f"BSD-3-Clause AND {_APACHE}",
            summary="Ships with napari-sam: works offline, fast on a laptop's processor.",
            sha256="69bd7967774c5231f5b410e61c33d79ff3ff2d15f5202f0fc30e3eb9d6d05c39",
            shipped=True,
        ),
        _sam(
            "vit_b",
            "sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_000_000,
            "Everyday images.",
        ),
        _sam(
            "vit_l",
            "sam_vit_l_0b3195.pth",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            1_250_000_000,
            "Everyday images; wants a GPU.",
        ),
        _sam(
            "vit_h",
            "sam_vit_h_4b8939.pth",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_560_000_000,
            "Everyday images; largest, for a GPU.",
        ),
        ModelEntry(
            name="mobile_sam",
            family="vit_t",
            file="mobile_sam.pt",
            licence=_APACHE,
            summary="Everyday images, without a GPU.",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            source=f"{_MOBILE_HOME}/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
            homepage=_MOBILE_HOME,
            nbytes=41_000_000,
        ),
        _hq("t", 42_000_000, "Fine outlines, without a GPU."),
        _hq("b", 379_000_000, "Fine outlines."),
        _hq("l", 1_255_000_000, "Fine outlines; wants a GPU."),
        _hq("h", 2_571_000_000, "Fine outlines; largest, for a GPU."),
        ModelEntry(
            name="medsam_vit_b",
            family="vit_b",
            file="medsam_vit_b.pth",
            licence=_APACHE,
            summary="Medical images, by boxes.",
            homepage=_MEDSAM_HOME,
            by_hand=f"get medsam_vit_b.pth from the Google Drive folder that {_MEDSAM_HOME} links to",
            nbytes=375_000_000,
        ),
        _micro("vit_t_lm", f"{_BIOIMAGE}/faithful-chicken/1.1/files/vit_t.pt", 41_000_000, _CC_BY, f"{_LM}; small."),
        _micro("vit_b_lm", f"{_BIOIMAGE}/diplomatic-bug/1.2/files/vit_b.pt", 375_000_000, _CC_BY, f"{_LM}."),
        _micro("vit_l_lm", f"{_BIOIMAGE}/idealistic-rat/1.2/files/vit_l.pt", 1_250_000_000, _CC_BY, f"{_LM}; large."),
        _micro(
            "vit_t_em_organelles", f"{_BIOIMAGE}/greedy-whale/1/files/vit_t.pt", 41_000_000, _CC_BY, f"{_EM}; small."
        ),
        _micro("vit_b_em_organelles", f"{_BIOIMAGE}/noisy-ox/1.2/files/vit_b.pt", 375_000_000, _CC_BY, f"{_EM}."),
        _micro(
            "vit_l_em_organelles",
            f"{_BIOIMAGE}/humorous-crab/1.2/files/vit_l.pt",
            1_250_000_000,
            _CC_BY,
            f"{_EM}; large.",
        ),
        _micro("vit_b_histopathology", f"{_GWDG}/sBB4H8CTmIoBZsQ/download", 375_000_000, _UNSTATED, f"{_PATHO}."),
        _micro(
            "vit_l_histopathology", f"{_GWDG}/IZgnn1cpBq2PHod/download", 1_250_000_000, _UNSTATED, f"{_PATHO}; large."
        ),
        _micro(
            "vit_h_histopathology", f"{_GWDG}/L7AcvVz7DoWJ2RZ/download", 2_560_000_000, _UNSTATED, f"{_PATHO}; largest."
        ),
        _micro(
            "vit_b_medical_imaging",
            f"{_GWDG}/f5Ol4FrjPQWfjUF/download",
            375_000_000,
            _UNSTATED,
            "Medical images.",
        ),
        _sam2(
            "tiny",
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
            156_000_000,
            "Everyday images; smallest SAM 2.1.",
        ),
        _sam2(
            "small",
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
            184_000_000,
            "Everyday images.",
        ),
        _sam2(
            "base_plus",
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
            323_000_000,
            "Everyday images; wants a GPU.",
        ),
        _sam2(
            "large",
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
            898_000_000,
            "Everyday images; largest, for a GPU.",
        ),
        ModelEntry(
            name="sam3",
            family="sam3",
            file="sam3.safetensors",
            licence="SAM License",
            summary="Everyday images; its licence forbids some uses.",
            homepage=_SAM3_HOME,
            by_hand=f"accept the licence of facebook/sam3 on Hugging Face (see {_SAM3_HOME}), get model.safetensors "
            "and, beside it, tokenizer.json",
            nbytes=3_400_000_000,
            extra="sam2",
        ),
    )
}
