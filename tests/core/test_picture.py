import itertools

import numpy as np
import pytest
from keras import ops
from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from fedlearn import core
from tests.core import random_programs

pytestmark = pytest.mark.backend_free


def parts(ax):
    """Boxes, each with its texts from above, and arrows."""
    patches = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    boxes = []
    for patch in patches:
        x, y = patch.get_x(), patch.get_y()
        width, height = patch.get_width(), patch.get_height()
        texts = [
            text
            for text in ax.texts
            if x < text.get_position()[0] < x + width
            and y < text.get_position()[1] < y + height
        ]
        texts.sort(key=lambda text: text.get_position()[1])
        lines = [text.get_text() for text in texts]
        boxes.append(((x, y, x + width, y + height), lines))
    arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
    return boxes, arrows


def within(path, box, margin=0.05):
    """Whether a curve is inside of a box."""
    x, y = np.concatenate(path.to_polygons(closed_only=False)).T
    left, top, right, bottom = box
    inside = (left + margin < x) & (x < right - margin)
    return np.any(inside & (top + margin < y) & (y < bottom - margin))


def test_share_above():
    reading = core.FederatedType("float32", core.CLIENTS)
    number = core.FederatedType("float32", core.SERVER)

    def exceeds(reading, threshold):
        return ops.cast(reading > threshold, "float32")

    @core.federated_computation(reading, number)
    def share_above(readings, threshold):
        sent = core.federated_broadcast(threshold)
        above = core.federated_map(exceeds, (readings, sent))
        return core.federated_mean(above)

    ax = share_above.draw()
    boxes, arrows = parts(ax)
    found = {lines[0]: (box, lines[1:]) for box, lines in boxes}
    assert {name: lines for name, (_, lines) in found.items()} == {
        "readings": ["{float32}"],
        "threshold": ["float32"],
        "federated_broadcast": ["float32"],
        "exceeds": ["federated_map", "{float32}"],
        "federated_mean": ["float32"],
        "result": ["float32"],
    }
    left = {name: box[0] for name, (box, _) in found.items()}
    assert left["threshold"] < left["federated_broadcast"] < left["exceeds"]
    assert left["exceeds"] < left["federated_mean"] < left["result"]
    top = {name: box[1] for name, (box, _) in found.items()}
    assert top["threshold"] < top["federated_broadcast"] < top["readings"]
    assert top["result"] < top["federated_mean"] < top["exceeds"]
    assert len(arrows) == 5
    assert ax.get_title(loc="left") == "share_above"
    assert share_above.draw(ax) is ax
    pyplot.close("all")


def test_every_operator_of_random_programs_has_a_place_of_its_own():
    for seed in range(25):
        made = random_programs.computation(seed)
        boxes, arrows = parts(made.draw())
        pyplot.close("all")
        kinds = [op.kind for op in made.program.ops]
        drawn = [x for _, lines in boxes for x in lines if x in kinds]
        assert sorted(drawn) == sorted(kinds)
        places = [box for box, _ in boxes]
        for a, b in itertools.combinations(places, 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (seed, a, b)
        for arrow in arrows:
            for box in places:
                assert not within(arrow.get_path(), box), (seed, box)
