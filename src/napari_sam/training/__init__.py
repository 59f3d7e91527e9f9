"""Training by simulated prompts, for the compact model and for any SAM on a user's own labels."""

import napari_sam.models as _models  # noqa: F401  before torch: it tells torch's threads not to spin
