"""From a data set's action numbers to the classes of a model, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError
from recordings.actions import action_code, action_name, class_indices
from recordings.recording import RecordingRef
from runtime.manifest import Label


def labels_of(refs: Sequence[RecordingRef]) -> tuple[Label, ...]:
    """The classes that occur in `refs`, by code.

    Raises:
        DataError: there are fewer than two.
    """
    found = {action_code(ref.format, ref.action): action_name(ref.format, ref.action) for ref in refs}
    if len(found) < 2:
        raise DataError(f"the recordings hold {len(found)} class ({', '.join(found)}); training needs at least two")
    return tuple(Label(code, found[code]) for code in sorted(found))


def label_indices(refs: Sequence[RecordingRef], labels: Sequence[Label]) -> npt.NDArray[np.int32]:
    """For every recording the index of its class in `labels`, int32 [N].

    Raises:
        DataError: a recording belongs to none of the classes.
    """
    return class_indices(refs, [label.code for label in labels])
