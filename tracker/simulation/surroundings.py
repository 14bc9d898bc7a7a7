"""What stands around the person: walls, a floor, a desk, things on it and between, and things close to the camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker.simulation.people import Person
from tracker.simulation.render import Mesh
from tracker.simulation.stage import Stage
from tracker.simulation.things import chair, clutter

FREE = 0.13
"""Metres around the hands' place that stay free of things."""


def surroundings(rng: np.random.Generator, stage: Stage, person: Person) -> list[Mesh]:
    """The still meshes of a situation, camera frame, without the person."""
    size = person.size

    def flat(
        origin: tuple[float, float, float], one: tuple[float, float, float], two: tuple[float, float, float]
    ) -> Mesh:
        """A rectangle given in the person's frame, in pieces: those behind the camera fall away one by one."""
        corner = stage.to_camera(np.array(origin) * size)
        return plane(corner, size * stage.rotation @ np.array(one), size * stage.rotation @ np.array(two))

    meshes = []
    desk = None if stage.desk is None else stage.desk / size
    if rng.random() < 0.75:
        z, slant = rng.uniform(0.2, 2.5), rng.normal(0, 0.3)
        meshes.append(flat((-3, -2, z - slant), (6, 0, 2 * slant), (0, 3.5, 0)))
    if rng.random() < 0.4:
        x, slant = rng.choice((-1, 1)) * rng.uniform(0.6, 2.0), rng.normal(0, 0.2)
        meshes.append(flat((x, -2, -2.5), (slant, 0, 5), (0, 3.5, 0)))
    if rng.random() < 0.6:
        y = rng.uniform(0.95, 1.4) if desk is None else desk + 0.72
        meshes.append(flat((-3, y, -3), (6, 0, 0), (0, 0, 5.5)))
    if rng.random() < 0.15:
        seat = chair(rng)
        meshes.append(Mesh(stage.to_camera(seat.vertices * size), seat.faces, seat.closed))
    spots = []
    if desk is not None:
        edge, deep, wide = -rng.uniform(0.12, 0.25), rng.uniform(0.5, 0.9), rng.uniform(0.8, 1.8)
        left = rng.uniform(-0.75, -0.25) * wide
        meshes.append(flat((left, desk, edge), (wide, 0, 0), (0, rng.normal(0, 0.01), -deep)))
        for _ in range(rng.poisson(2.5)):
            spots.append(np.array([left + wide * rng.random(), desk - 0.03, edge - deep * rng.random()]))
    for _ in range(rng.poisson(1.0)):  # beside and behind the person
        spots.append(np.array([rng.normal(0, 0.5), rng.uniform(-0.6, 0.7), rng.uniform(-0.3, 0.8)]))
    places = [stage.to_camera(spot * size) for spot in spots]
    if rng.random() < 0.3:  # close to the camera, mostly at the edge of the picture
        z = float(rng.uniform(0.35, 0.9) * stage.middle[2])
        aside = rng.normal(0, 0.45, 2)
        places.append(np.array([aside[0] * z, aside[1] * z, z]))
    busy = [stage.to_camera(arm.place) for arm in stage.arms if arm.acts] + [stage.middle]
    for place in places:
        if place[2] > 0.15 and min(float(np.linalg.norm(place - other)) for other in busy) > FREE:
            meshes.append(
                clutter(rng, place, float(rng.uniform(0.03, 0.25)), stage.rotation @ np.array([0.0, -1.0, 0.0]))
            )
    return meshes


def plane(
    corner: NDArray[np.floating], one: NDArray[np.floating], two: NDArray[np.floating], step: float = 0.25
) -> Mesh:
    """A rectangle from a corner along two edges (3,), metres, in pieces of about `step`.

    In pieces, because the renderer leaves out triangles that reach behind the camera.
    """
    n, m = (max(int(np.ceil(np.linalg.norm(edge) / step)), 1) for edge in (one, two))
    a, b = (grid.reshape(-1, 1) for grid in np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, m + 1)))
    first = (np.arange(m)[:, None] * (n + 1) + np.arange(n)).reshape(-1)
    faces = np.concatenate(
        [np.stack([first, first + 1, first + n + 2], axis=1), np.stack([first, first + n + 2, first + n + 1], axis=1)]
    )
    return Mesh(corner + a * one + b * two, faces.astype(np.int32), closed=False)
