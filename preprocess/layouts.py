"""Skeleton layouts: how many joints, which are the trunk's, which pairs are bones.

Indices are 0-based. Sources: NTU RGB+D's joint order (shahroudy/NTURGB-D) and MSR Daily Activity 3D's
(Kinect v1 order).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SkeletonLayout:
    """The joints of one sensor.

    Attributes:
        name: short identifier, stored in specifications.
        joint_count: J, the number of joints of a body.
        pelvis: index of the joint that becomes the origin.
        shoulder_center: index of the joint whose distance to the pelvis is the torso length.
        limbs: bones as pairs of joint indices.
        mirror: for every joint the joint that takes its place when left and right are exchanged.
    """

    name: str
    joint_count: int
    pelvis: int
    shoulder_center: int
    limbs: tuple[tuple[int, int], ...]
    mirror: tuple[int, ...]


def _mirror(joint_count: int, pairs: dict[int, int]) -> tuple[int, ...]:
    both = pairs | {right: left for left, right in pairs.items()}
    return tuple(both.get(j, j) for j in range(joint_count))


_NTU_LIMBS_1_BASED = (
    (1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11),
    (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 8), (23, 8), (24, 12),
    (25, 12),
)  # fmt: skip

NTU25 = SkeletonLayout(
    name="ntu25",
    joint_count=25,
    pelvis=0,
    shoulder_center=20,
    limbs=tuple((a - 1, b - 1) for a, b in _NTU_LIMBS_1_BASED),
    mirror=_mirror(25, {4: 8, 5: 9, 6: 10, 7: 11, 12: 16, 13: 17, 14: 18, 15: 19, 21: 23, 22: 24}),
)

_MSR_LIMBS = (
    (0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6), (6, 7), (2, 8), (8, 9), (9, 10), (10, 11), (0, 12), (12, 13),
    (13, 14), (14, 15), (0, 16), (16, 17), (17, 18), (18, 19),
)  # fmt: skip

MSR20 = SkeletonLayout(
    name="msr20",
    joint_count=20,
    pelvis=0,
    shoulder_center=2,
    limbs=_MSR_LIMBS,
    mirror=_mirror(20, {4: 8, 5: 9, 6: 10, 7: 11, 12: 16, 13: 17, 14: 18, 15: 19}),
)

LAYOUTS = {layout.name: layout for layout in (NTU25, MSR20)}
