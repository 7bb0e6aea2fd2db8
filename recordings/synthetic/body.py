"""The human figure: proportions, and kinematics from a few control tracks to the 25 joints of a Kinect v2.

Coordinates are the room's: metres, x to the person's left, y up, z forward, the floor at y = 0. Hands and feet are
placed as the action needs them and the elbow or knee follows from the lengths of the two bones (law of cosines),
so hands meet exactly, feet stay on the floor and bones keep their lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ..sound import Array

FRAME_RATE_HZ = 30
JOINTS = 25
REFERENCE_HEIGHT_M = 1.70

# 0-based joint numbers of the Kinect v2, left side first where there are two.
PELVIS, SPINE_MID, NECK, HEAD, SHOULDER_CENTER = 0, 1, 2, 3, 20
SHOULDERS, ELBOWS, WRISTS, HANDS = (4, 8), (5, 9), (6, 10), (7, 11)
HIPS, KNEES, ANKLES, FEET = (12, 16), (13, 17), (14, 18), (15, 19)
HAND_TIPS, THUMBS = (21, 23), (22, 24)

_SIDES = np.array([1.0, -1.0])  # the left is at +x
_STRAIGHT = 0.985  # share of the leg's length used in standing: knees are never locked
_TRUNK_HALF_WIDTH_M, _TRUNK_HALF_DEPTH_M = 0.17, 0.13


@dataclass(frozen=True)
class Proportions:
    """Lengths of a body's segments, in metres."""

    height: float
    thigh: float
    shank: float
    ankle_height: float
    foot: float
    hip_half_width: float
    lower_trunk: float
    upper_trunk: float
    neck: float
    head: float
    shoulder_half_width: float
    upper_arm: float
    forearm: float
    hand: float
    hand_tip: float
    thumb: float

    @property
    def scale(self) -> float:
        """Size relative to the person for whom control tracks are written."""
        return self.height / REFERENCE_HEIGHT_M

    @property
    def standing_pelvis_m(self) -> float:
        return self.ankle_height + _STRAIGHT * (self.thigh + self.shank)


# Segment lengths as shares of the height, after Drillis and Contini, moved to where a Kinect sees the joints.
_SHARES = Proportions(
    height=1.0, thigh=0.245, shank=0.246, ankle_height=0.045, foot=0.075, hip_half_width=0.05, lower_trunk=0.165,
    upper_trunk=0.125, neck=0.042, head=0.088, shoulder_half_width=0.105, upper_arm=0.168, forearm=0.148, hand=0.045,
    hand_tip=0.045, thumb=0.035,
)  # fmt: skip


def draw_proportions(rng: np.random.Generator) -> Proportions:
    """A body: height normal around 1.70 m, every segment up to a few percent off its usual share."""
    height = REFERENCE_HEIGHT_M + float(np.clip(rng.normal(0, 0.09), -0.2, 0.25))
    shares = {item.name: getattr(_SHARES, item.name) for item in fields(Proportions)}
    lengths = {
        name: height * share * (1 + float(np.clip(rng.normal(0, 0.035), -0.09, 0.09))) for name, share in shares.items()
    }
    return Proportions(**(lengths | {"height": height}))


@dataclass
class Tracks:
    """Controls of the figure per frame, set by an action. Lengths are those of a person of 1.70 m; side 0 is the left.

    Attributes:
        pelvis: [T, 3], offset from the pelvis of the standing body.
        lean: [T, 3], pitch forward, roll and twist of the trunk, in radians.
        head: [T, 2], pitch down and yaw of the head relative to the trunk, in radians.
        hands: [T, 2, 3], palms, from the shoulder centre, in axes that lean with the trunk.
        fingers: [T, 2, 3], where the fingers point, in the same axes; any length.
        ankles: [T, 2, 3], offset from the ankles of the standing body.
        toes: [T, 2], how far the toes point down beyond standing, in radians.
    """

    pelvis: Array
    lean: Array
    head: Array
    hands: Array
    fingers: Array
    ankles: Array
    toes: Array

    @classmethod
    def neutral(cls, frames: int) -> Tracks:
        """Standing with the arms hanging."""
        hands = np.array([[0.25, -0.59, 0.05], [-0.25, -0.59, 0.05]])
        fingers = np.array([[0.0, -1.0, 0.15], [0.0, -1.0, 0.15]])
        return cls(
            pelvis=np.zeros((frames, 3)),
            lean=np.zeros((frames, 3)),
            head=np.zeros((frames, 2)),
            hands=np.tile(hands, (frames, 1, 1)),
            fingers=np.tile(fingers, (frames, 1, 1)),
            ankles=np.zeros((frames, 2, 3)),
            toes=np.zeros((frames, 2)),
        )

    def mirrored(self) -> Tracks:
        """The same action by a left-handed person."""
        flip = np.array([-1.0, 1.0, 1.0])
        return Tracks(
            pelvis=self.pelvis * flip,
            lean=self.lean * [1.0, -1.0, -1.0],
            head=self.head * [1.0, -1.0],
            hands=self.hands[:, ::-1] * flip,
            fingers=self.fingers[:, ::-1] * flip,
            ankles=self.ankles[:, ::-1] * flip,
            toes=self.toes[:, ::-1],
        )


def pose(body: Proportions, tracks: Tracks) -> Array:
    """Joints [T, 25, 3] of `body` in room coordinates, in metres."""
    frames = len(tracks.pelvis)
    joints = np.empty((frames, JOINTS, 3))
    chest = _rotation(tracks.lean)
    pelvis = tracks.pelvis * body.scale + [0.0, body.standing_pelvis_m, 0.0]
    joints[:, PELVIS] = pelvis
    joints[:, SPINE_MID] = pelvis + _rotation(tracks.lean / 2) @ [0.0, body.lower_trunk, 0.0]
    centre = joints[:, SPINE_MID] + chest @ [0.0, body.upper_trunk, 0.0]
    joints[:, SHOULDER_CENTER] = centre
    joints[:, NECK] = centre + chest @ [0.0, body.neck, 0.0]
    nod = _rotation(np.stack([tracks.head[:, 0], np.zeros(frames), tracks.head[:, 1]], axis=1))
    joints[:, HEAD] = joints[:, NECK] + (chest @ nod) @ (body.head * _unit(np.array([0.0, 1.0, 0.2])))
    _pose_arms(joints, body, tracks, chest)
    _pose_legs(joints, body, tracks)
    return joints


def _pose_arms(joints: Array, body: Proportions, tracks: Tracks, chest: Array) -> None:
    hands = clear_of_trunk(tracks.hands) * body.scale
    overhead = np.clip(hands[..., 1:2] / 0.15 + 0.8, 0, 1)
    fingers = _unit(tracks.fingers)
    # The collar bone rises with the hand.
    rise = 0.3 * np.clip((hands[..., 1] + 0.2) / 0.6, 0, 1) - 0.12
    shoulders = body.shoulder_half_width * np.stack([_SIDES * np.cos(rise), np.sin(rise), np.zeros_like(rise)], axis=-1)
    pole = np.array([0.4, -0.8, -0.5]) + overhead * np.array([0.3, 0.3, 1.0])  # elbows: back, or forward when raised
    pole = pole * np.stack([_SIDES, np.ones(2), np.ones(2)], axis=1)
    elbows, wrists = _two_bones(shoulders, hands - body.hand * fingers, body.upper_arm, body.forearm, pole)
    palms = wrists + body.hand * fingers
    thumb = _unit(0.6 * fingers + 0.8 * _unit(np.cross(fingers, [1.0, 0.1, 0.05])))
    parts = {
        SHOULDERS: shoulders,
        ELBOWS: elbows,
        WRISTS: wrists,
        HANDS: palms,
        HAND_TIPS: palms + body.hand_tip * fingers,
        THUMBS: palms + body.thumb * thumb,
    }
    centre = joints[:, None, SHOULDER_CENTER]
    for numbers, local in parts.items():
        joints[:, numbers] = centre + np.einsum("tij,tsj->tsi", chest, local)


def _pose_legs(joints: Array, body: Proportions, tracks: Tracks) -> None:
    hips = joints[:, None, PELVIS] + _SIDES[:, None] * [body.hip_half_width, 0.0, 0.0]
    place = _SIDES[:, None] * [1.3 * body.hip_half_width, 0.0, 0.0] + [0.0, body.ankle_height, 0.0]
    pole = np.array([[0.15, 0.1, 1.0], [-0.15, 0.1, 1.0]])
    knees, ankles = _two_bones(hips, place + tracks.ankles * body.scale, body.thigh, body.shank, pole)
    # In standing the foot joint, the ball of the foot, lies 3 cm above the floor.
    down = np.arcsin(np.clip((body.ankle_height - 0.03) / body.foot, -1, 1)) + tracks.toes
    toe = np.stack([0.25 * _SIDES * np.cos(down), -np.sin(down), np.sqrt(1 - 0.25**2) * np.cos(down)], axis=-1)
    joints[:, HIPS], joints[:, KNEES], joints[:, ANKLES] = hips, knees, ankles
    joints[:, FEET] = ankles + body.foot * toe


def clear_of_trunk(hands: Array) -> Array:
    """Move palms that would be inside the trunk to its front. Shape [..., 3], shoulder-centre axes."""
    across = 1 - (hands[..., 0] / _TRUNK_HALF_WIDTH_M) ** 2
    front = _TRUNK_HALF_DEPTH_M * np.sqrt(np.clip(across, 0, None))
    beside_trunk = (hands[..., 1] < 0.05) & (across > 0)
    moved = hands.copy()
    moved[..., 2] = np.where(beside_trunk, np.maximum(hands[..., 2], front), hands[..., 2])
    return moved


def _two_bones(root: Array, target: Array, first: float, second: float, pole: Array) -> tuple[Array, Array]:
    """Middle and end joint of a chain of two bones whose end reaches for `target` and whose middle turns to `pole`."""
    reach = target - root
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / np.maximum(distance, 1e-6)
    distance = np.clip(distance, abs(first - second) + 1e-3, first + second - 1e-3)
    aside = _unit(pole - np.sum(pole * along, axis=-1, keepdims=True) * along)
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    middle = root + first * (cosine * along + np.sqrt(np.clip(1 - cosine**2, 0, 1)) * aside)
    return middle, root + distance * along


def _unit(vector: Array) -> Array:
    length: Array = np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)
    return vector / length


def _rotation(angles: Array) -> Array:
    """Matrices [T, 3, 3] that turn by roll (about z), then pitch (about x), then twist (about y); angles [T, 3]."""
    (cp, cr, ct), (sp, sr, st) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [ct * cr + st * sp * sr, -ct * sr + st * sp * cr, st * cp],
        [cp * sr, cp * cr, -sp],
        [-st * cr + ct * sp * sr, st * sr + ct * sp * cr, ct * cp],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
