"""Names of the actions, as the data sets' authors give them.

Sources: the README of NTU RGB+D (shahroudy/NTURGB-D), A001 to A060 in order; the page of MSR Daily Activity 3D,
a01 to a16 in order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError

from .recording import RecordingRef

NTU60_ACTIONS = (
    "drink water",
    "eat meal/snack",
    "brushing teeth",
    "brushing hair",
    "drop",
    "pickup",
    "throw",
    "sitting down",
    "standing up (from sitting position)",
    "clapping",
    "reading",
    "writing",
    "tear up paper",
    "wear jacket",
    "take off jacket",
    "wear a shoe",
    "take off a shoe",
    "wear on glasses",
    "take off glasses",
    "put on a hat/cap",
    "take off a hat/cap",
    "cheer up",
    "hand waving",
    "kicking something",
    "reach into pocket",
    "hopping (one foot jumping)",
    "jump up",
    "make a phone call/answer phone",
    "playing with phone/tablet",
    "typing on a keyboard",
    "pointing to something with finger",
    "taking a selfie",
    "check time (from watch)",
    "rub two hands together",
    "nod head/bow",
    "shake head",
    "wipe face",
    "salute",
    "put the palms together",
    "cross hands in front (say stop)",
    "sneeze/cough",
    "staggering",
    "falling",
    "touch head (headache)",
    "touch chest (stomachache/heart pain)",
    "touch back (backache)",
    "touch neck (neckache)",
    "nausea or vomiting condition",
    "use a fan (with hand or paper)/feeling warm",
    "punching/slapping other person",
    "kicking other person",
    "pushing other person",
    "pat on back of other person",
    "point finger at the other person",
    "hugging other person",
    "giving something to other person",
    "touch other person's pocket",
    "handshaking",
    "walking towards each other",
    "walking apart from each other",
)

MSR_ACTIONS = (
    "drink",
    "eat",
    "read book",
    "call cellphone",
    "write on a paper",
    "use laptop",
    "use vacuum cleaner",
    "cheer up",
    "sit still",
    "toss paper",
    "play game",
    "lie down on sofa",
    "walk",
    "play guitar",
    "stand up",
    "sit down",
)

_FORMATS = {"ntu": (NTU60_ACTIONS, "A{:03d}"), "msr": (MSR_ACTIONS, "a{:02d}")}


def action_name(format: str, action: int) -> str:
    """The name of an action.

    Args:
        format: `ntu` or `msr`.
        action: the data set's 1-based number.

    Raises:
        DataError: the format is unknown or has no such action.
    """
    names, _ = _lookup(format, action)
    return names[action - 1]


def action_code(format: str, action: int) -> str:
    """The action as file names write it: `A001` (NTU), `a01` (MSR). Arguments and errors as `action_name`."""
    _, pattern = _lookup(format, action)
    return pattern.format(action)


def class_indices(refs: Sequence[RecordingRef], codes: Sequence[str]) -> npt.NDArray[np.int32]:
    """For every recording the index of its action's code in `codes`, the classes of a model: int32 [N].

    Raises:
        DataError: a recording belongs to none of the classes.
    """
    index = {code: i for i, code in enumerate(codes)}
    for ref in refs:
        if action_code(ref.format, ref.action) not in index:
            raise DataError(
                f"recording {ref.name} shows {action_name(ref.format, ref.action)!r}, not a class of the model; "
                f"those are {', '.join(codes)}"
            )
    return np.array([index[action_code(ref.format, ref.action)] for ref in refs], dtype=np.int32)


def _lookup(format: str, action: int) -> tuple[tuple[str, ...], str]:
    if format not in _FORMATS:
        raise DataError(f"recording format {format!r} is unknown; use one of {', '.join(_FORMATS)}")
    names, pattern = _FORMATS[format]
    if not 1 <= action <= len(names):
        first, last = pattern.format(1), pattern.format(len(names))
        raise DataError(f"action {action} does not exist in format {format!r}; it has {first} to {last}")
    return names, pattern
