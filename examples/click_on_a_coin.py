"""One click, one mask, one label: the scripting API on a photograph that scikit-image ships."""

from skimage.data import coins

from napari_sam import Segmenter

segmenter = Segmenter(coins())
candidates = segmenter.segment(points=[(51, 155)])
label = segmenter.accept(candidates)
for name in ("small", "medium", "large"):
    mask = candidates.named(name)
    print(f"{name:6s} {mask.area:5d} px, predicted IoU {mask.iou_prediction:.2f}, stability {mask.stability_score:.2f}")
print(f"label {label} is {(segmenter.labels == label).sum()} px of the coin at {candidates.best.box.as_tuple()}")
