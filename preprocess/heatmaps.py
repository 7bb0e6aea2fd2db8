"""Skeleton → heatmaps (paper, appendix A, Eq. 1 and 2): one function for every stage, in the order of the file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .layouts import SkeletonLayout
from .spec import AnyFloatArray, DoubleArray, FloatArray, HeatmapSpec

IndexArray = npt.NDArray[np.intp]
Size = tuple[int, int]  # rows, columns

CUTOFF_SIGMA = 6.0
"""Gaussians end at this radius. exp(−6²/2) = 1.5e-8 is what is lost there: less than float32 resolves near 1."""

MAX_COORDINATE_M = 1e6
"""A coordinate beyond it is a defect of the recording and counts as non-finite, so that no arithmetic can overflow."""

_VIEWS = ((0, 1), (0, 2), (2, 1))  # (column, row) axes of XY, XZ, YZ in (x, −y, z)
_LIMBS_PER_BATCH = 48  # more save overhead, fewer waste less on unequal patches and stay in the cache


class Heatmaps(NamedTuple):
    """Result of `skeleton_to_heatmaps`.

    Attributes:
        tensor: float32 [S, S, 6 · frames + 1] in [0, 1]. Channel 6·t + k holds, for sampled frame t, the k-th of
            (joints XY, XZ, YZ, limbs XY, XZ, YZ); the last channel is the motion map.
        notes: what was unusual about the recording, one sentence each; empty when nothing was.
    """

    tensor: FloatArray
    notes: tuple[str, ...]


def skeleton_to_heatmaps(
    joints: AnyFloatArray,
    confidence: AnyFloatArray,
    spec: HeatmapSpec,
    *,
    layout: SkeletonLayout | None = None,
    rng: np.random.Generator | None = None,
) -> Heatmaps:
    """Draw the joints and limbs of a recording.

    Args:
        joints: float32 or float64 [T, P, J, 3], metres, camera space, y up. Non-finite joints are not drawn.
        confidence: float32 or float64 [T, P, J] in [0, 1]; a body is present in a frame where any of its is above 0.
        spec: sizes and constants.
        layout: of the joints; by default the one that `spec` names.
        rng: draws the frames inside their segments (training); without it, their centres are used.

    Raises:
        DataError: a shape or dtype is wrong, there is no frame, or a confidence lies outside [0, 1].
    """
    layout = layout or spec.skeleton_layout
    joints, confidence, notes = discard_invalid_joints(*_checked(joints, confidence, layout))
    bodies = select_bodies(joints, confidence, spec)
    if not bodies.size:
        notes += (f"no body has a mean confidence of at least {spec.min_confidence:g}; the heatmaps are all zero",)
        return Heatmaps(np.zeros(spec.shape, np.float32), notes)

    joints, confidence = joints[:, bodies], confidence[:, bodies]
    positions, more_notes = normalize_skeleton(joints, confidence, spec, layout=layout)
    frames = sample_frames(len(joints), spec.sampled_frames, rng=rng)
    points = project_views(positions[frames], spec)
    weights = visible_confidence(confidence[frames], spec)
    tensor = np.zeros(spec.shape, np.float32)
    column, row, size = _drawn_window(points, weights, spec)
    window = tensor[row : row + size[0], column : column + size[1]]
    points -= (column, row)
    joint = joint_maps(points, weights, spec, size)
    window[..., -1] = motion_map(joint)
    _write_channels(window, joint, 0)
    del joint  # its memory serves the limbs: fresh pages cost more than the arithmetic
    _write_channels(window, limb_maps(points, weights, spec, size, layout=layout), 3)
    return Heatmaps(tensor, notes + more_notes)


def _checked(
    joints: AnyFloatArray, confidence: AnyFloatArray, layout: SkeletonLayout
) -> tuple[DoubleArray, FloatArray]:
    joints, confidence = np.asarray(joints), np.asarray(confidence)
    for name, array in (("joints", joints), ("confidence", confidence)):
        if array.dtype not in (np.float32, np.float64):
            raise DataError(f"{name} has dtype {array.dtype}; give float32 or float64")
    if joints.ndim != 4 or joints.shape[-1] != 3:
        raise DataError(f"joints has shape {joints.shape}; give [frames, bodies, joints, 3]")
    if confidence.shape != joints.shape[:-1]:
        raise DataError(f"confidence has shape {confidence.shape}; joints need one for each, {joints.shape[:-1]}")
    if joints.shape[2] != layout.joint_count:
        raise DataError(
            f"joints has {joints.shape[2]} joints per body, layout {layout.name} has {layout.joint_count}; "
            "name the recording's layout"
        )
    if not len(joints):
        raise DataError(f"joints has shape {joints.shape}, no frame; leave the recording out")
    valid = (confidence >= 0) & (confidence <= 1)
    if not valid.all():
        raise DataError(f"confidence {confidence[~valid][0]:g} lies outside [0, 1]; map the sensor's scale to it")
    return joints.astype(np.float64), confidence.astype(np.float32)


def discard_invalid_joints(
    joints: DoubleArray, confidence: FloatArray
) -> tuple[DoubleArray, FloatArray, tuple[str, ...]]:
    """Give every joint with a coordinate that is not finite confidence 0 and position 0, and note their number."""
    invalid = ~(np.abs(joints) <= MAX_COORDINATE_M).all(-1)
    count = np.count_nonzero(invalid)
    if not count:
        return joints, confidence, ()
    note = f"{count} of {invalid.size} joint positions are not finite (or beyond {MAX_COORDINATE_M:g} m); not drawn"
    return np.where(invalid[..., None], 0.0, joints), np.where(invalid, np.float32(0), confidence), (note,)


def select_bodies(joints: DoubleArray, confidence: FloatArray, spec: HeatmapSpec) -> IndexArray:
    """Indices of the bodies to draw, most motion first; the first is the main body.

    A body counts when its mean confidence, over the frames in which it is present, reaches `spec.min_confidence`.
    Motion is the variance of the position over those frames, summed over joints and axes.
    """
    present = (confidence > 0).any(-1)
    motion = np.full(joints.shape[1], -1.0)
    for body in np.flatnonzero(present.any(0)):
        frames = present[:, body]
        # float64 sums float32 exactly here: a body whose every confidence equals the minimum is kept
        if confidence[frames, body].mean(dtype=np.float64) >= np.float32(spec.min_confidence):
            motion[body] = joints[frames, body].var(axis=0).sum()
    order = np.argsort(-motion, kind="stable")
    return order[motion[order] >= 0][: spec.max_bodies]


def normalize_skeleton(
    joints: DoubleArray, confidence: FloatArray, spec: HeatmapSpec, *, layout: SkeletonLayout
) -> tuple[DoubleArray, tuple[str, ...]]:
    """Positions relative to the main body (the first), in torso lengths; and notes.

    Origin: its pelvis in the first frame that shows it. Unit: the median distance from pelvis to shoulder centre over
    the frames that show both, `spec.default_torso_m` where there is no such frame or the median is too small.
    """
    body = joints[:, 0]
    visible = confidence[:, 0] >= np.float32(spec.min_confidence)
    notes: tuple[str, ...] = ()

    pelvis_frames = np.flatnonzero(visible[:, layout.pelvis])
    if pelvis_frames.size:
        origin = body[pelvis_frames[0], layout.pelvis]
    else:
        frame = int(np.argmax(visible.any(-1)))
        origin = body[frame][visible[frame]].mean(0)
        notes += ("the main body's pelvis is never seen; the mean of its first joints seen is the origin",)

    both = visible[:, layout.pelvis] & visible[:, layout.shoulder_center]
    torsos = np.linalg.norm(body[both, layout.shoulder_center] - body[both, layout.pelvis], axis=-1)
    torso_m = float(np.median(torsos)) if torsos.size else 0.0
    if torso_m <= spec.min_torso_m:
        measured = f"{torso_m:.3g} m" if torsos.size else "never seen"
        notes += (f"the main body's torso length is {measured}; {spec.default_torso_m:g} m is used",)
        torso_m = spec.default_torso_m
    return (joints - origin) / torso_m, notes


def sample_frames(frame_count: int, sampled_frames: int, *, rng: np.random.Generator | None = None) -> IndexArray:
    """Frame indices, one for each of `sampled_frames` segments of equal length, in order.

    Segment i is [i, i + 1) · frame_count / sampled_frames. Its frame is floor of the segment's centre, or of a point
    drawn uniformly inside it when `rng` is given. A recording with fewer frames than segments repeats frames.
    """
    segment = np.arange(sampled_frames)
    if rng is None:
        return (2 * segment + 1) * frame_count // (2 * sampled_frames)
    drawn = (segment + rng.random(sampled_frames)) * frame_count / sampled_frames
    return np.minimum(drawn.astype(np.intp), frame_count - 1)  # segment + random may round up to the next segment


def project_views(positions: DoubleArray, spec: HeatmapSpec) -> DoubleArray:
    """Pixel coordinates (column, row) in the views XY = (x, −y), XZ = (x, z), YZ = (z, −y).

    Args:
        positions: [F, B, J, 3] in torso lengths.

    Returns:
        [F, 3, B, J, 2] in pixels; the view's centre is (S − 1) / 2, points outside it keep their coordinates.
    """
    image_axes = positions * (1.0, -1.0, 1.0)
    views = np.stack([image_axes[..., axes] for axes in _VIEWS], axis=1)
    pixels: DoubleArray = (views / spec.field_of_view_torso + 1) / 2 * (spec.size - 1)
    return pixels


def visible_confidence(confidence: FloatArray, spec: HeatmapSpec) -> FloatArray:
    """The confidence, 0 where it is below `spec.min_confidence`."""
    return np.where(confidence >= np.float32(spec.min_confidence), confidence, np.float32(0))


def _drawn_window(points: DoubleArray, weights: FloatArray, spec: HeatmapSpec) -> tuple[int, int, Size]:
    """First column, first row and size of the part of the image that any map of any view reaches; the rest is zero."""
    reach = CUTOFF_SIGMA * spec.sigma_px
    drawn = points[np.broadcast_to(weights[:, None] > 0, points.shape[:-1])]
    if not len(drawn):
        return 0, 0, (0, 0)
    low = np.clip(np.ceil(drawn.min(0) - reach), 0, spec.size).astype(int)
    high = np.clip(np.floor(drawn.max(0) + reach) + 1, low, spec.size).astype(int)
    (column, row), (width, height) = low.tolist(), (high - low).tolist()
    return column, row, (height, width)


def joint_maps(points: DoubleArray, weights: FloatArray, spec: HeatmapSpec, size: Size | None = None) -> FloatArray:
    """Sum of c · exp(−d² / 2σ²) over bodies and joints, at most 1 (Eq. 1).

    A two-dimensional Gaussian is the product of one along the column and one along the row, so the sum over joints is
    a matrix product.

    Args:
        points: [F, 3, B, J, 2], pixels (column, row) in each view.
        weights: [F, B, J], confidence of the joints that are drawn, 0 for others.
        spec: sizes and constants.
        size: (rows, columns) of the maps, S × S unless given.

    Returns:
        float32 [F, 3, rows, columns] in [0, 1].
    """
    height, width = size or (spec.size, spec.size)
    frames, views = points.shape[:2]
    flat = points.reshape(frames, views, -1, 2)
    columns = _gaussian_1d(flat[..., 0], width, spec)
    rows = _gaussian_1d(flat[..., 1], height, spec)
    rows *= weights.reshape(frames, 1, -1, 1)
    return _at_most_one(rows.swapaxes(-1, -2) @ columns)


def _gaussian_1d(centers: DoubleArray, size: int, spec: HeatmapSpec) -> FloatArray:
    distance = np.arange(size, dtype=np.float32) - centers[..., None].astype(np.float32)
    distance *= 1 / (np.sqrt(2) * spec.sigma_px)
    exponent = np.square(distance, out=distance)
    values: FloatArray = np.exp(-exponent)
    values *= exponent <= CUTOFF_SIGMA**2 / 2  # also keeps denormals, which are slow, out of the matrix product
    return values


def _at_most_one(maps: FloatArray) -> FloatArray:
    ones = np.ones(maps.shape[-2:], np.float32)  # an array: NumPy 1.26 does not vectorise minimum with a scalar
    np.minimum(maps, ones, out=maps)
    return maps


def limb_maps(
    points: DoubleArray,
    weights: FloatArray,
    spec: HeatmapSpec,
    size: Size | None = None,
    *,
    layout: SkeletonLayout,
) -> FloatArray:
    """Sum of min(c_a, c_b) · exp(−D² / 2σ²) over bodies and limbs, D the distance to the segment, at most 1 (Eq. 2).

    A limb is drawn when both ends are. Each is computed on a rectangular patch around it; patches of similar size are
    computed together, those that are higher than wide with columns and rows exchanged.

    Args and result as `joint_maps`.
    """
    rows, columns = size or (spec.size, spec.size)
    frames, views = points.shape[:2]
    joint_a, joint_b = np.array(layout.limbs).T
    weight = np.minimum(weights[..., joint_a], weights[..., joint_b])[:, None]  # [F, 1, B, limbs]
    segments = np.stack([points[..., joint_a, :], points[..., joint_b, :]])  # [end, F, 3, B, limbs, (column, row)]
    radius = CUTOFF_SIGMA * spec.sigma_px
    low = np.ceil(np.minimum(*segments) - radius)
    high = np.floor(np.maximum(*segments) + radius) + 1
    drawn = np.nonzero((weight > 0) & (low < (columns, rows)).all(-1) & (high > 0).all(-1))
    weight = weight[drawn[0], 0, drawn[2], drawn[3]]
    low = np.maximum(low[drawn], 0).astype(np.intp)
    extent = np.minimum(high[drawn], (columns, rows)).astype(np.intp) - low
    limits = np.tile((columns, rows), (len(low), 1))
    start, stop = segments[0][drawn], segments[1][drawn]

    tall = extent[:, 1] > extent[:, 0]
    for pair in (start, stop, low, extent, limits):
        pair[tall] = pair[tall, ::-1]
    maps = np.zeros((frames * views, rows, columns), np.float32)
    canvases = [*maps, *maps.swapaxes(1, 2)]
    canvas = views * drawn[0] + drawn[1] + len(maps) * tall

    order = np.argsort(extent[:, 0], kind="stable")
    for first in range(0, len(order), _LIMBS_PER_BATCH):
        batch = order[first : first + _LIMBS_PER_BATCH]
        width, height = extent[batch].max(0).tolist()
        corner = np.maximum(np.minimum(low[batch], limits[batch] - (width, height)), 0)
        patches = _limb_patches(start[batch], stop[batch], corner, (width, height), spec)
        patches *= weight[batch, None, None]
        for index, (column, row), patch in zip(canvas[batch].tolist(), corner.tolist(), patches, strict=True):
            target = canvases[index][row : row + height, column : column + width]
            target += patch[: len(target), : target.shape[1]]
    return _at_most_one(maps).reshape(frames, views, rows, columns)


def _limb_patches(
    start: DoubleArray, stop: DoubleArray, corner: IndexArray, extent: tuple[int, int], spec: HeatmapSpec
) -> FloatArray:
    """exp(−D² / 2σ²) on n patches of pixels: float32 [n, height, width].

    D² = across² + beyond²: the distance across the limb's line and the one along it beyond the nearer end. Both are
    affine in the pixel, a column's part plus a row's part; lengths are in units of √2 σ.
    """
    unit = np.sqrt(2) * spec.sigma_px
    limb = stop - start
    length = np.hypot(limb[:, :1], limb[:, 1:])
    # a limb seen end-on is a point; any direction will do
    along_column, along_row = np.hsplit(np.where(length > 0, limb / np.maximum(length, 1e-300), (1.0, 0.0)), 2)
    length = length / unit

    width, height = extent
    column = (corner[:, :1] - start[:, :1] + np.arange(width)) / unit
    row = (corner[:, 1:] - start[:, 1:] + np.arange(height)) / unit
    before_start = _outer_sum(column * -along_column, row * -along_row)
    after_stop = _outer_sum(column * along_column, row * along_row - length)
    exponent = np.maximum(before_start, after_stop, out=before_start)  # one array from here on, to stay in the cache
    np.maximum(exponent, np.zeros_like(exponent), out=exponent)
    np.square(exponent, out=exponent)
    across = _outer_sum(column * along_row, row * -along_column)
    exponent += np.square(across, out=across)
    np.negative(exponent, out=exponent)
    np.exp(exponent, out=exponent)
    return exponent


def _outer_sum(column: DoubleArray, row: DoubleArray) -> FloatArray:
    return column.astype(np.float32)[:, None, :] + row.astype(np.float32)[:, :, None]


def motion_map(joint: FloatArray) -> FloatArray:
    """The largest change of the XY joint map from one sampled frame to the next: [F, 3, S, S] → [S, S] in [0, 1]."""
    change = np.diff(joint[:, 0], axis=0)
    largest: FloatArray = np.abs(change, out=change).max(0)
    return largest


def _write_channels(tensor: FloatArray, maps: FloatArray, first: int) -> None:
    for frame, views in enumerate(maps):
        for view, channel in enumerate(views):  # one strided copy each: twice as fast as one transpose
            tensor[..., 6 * frame + first + view] = channel
