"""Measures what partial pictures cost: the share of the time that drawing with them takes beyond drawing without.

    python benchmarks/preview.py               (under two minutes on an idle machine)
    python benchmarks/preview.py --threads 2

`mini-cxr` draws 1, 4 and 8 images of one report in one batch, with and without partial pictures in turn, the order
changing from round to round. A figure is the median over rounds with the smallest and the largest; the share of a round
is 1 - (seconds without) / (seconds with), once of the time that passed and once of the processor time of this process,
which is what can be compared beside other work, given one thread. The last line is one JSON object.
"""

import argparse
import json
import time

import torch
from generate import shown, spread

from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.models.bundled import find_bundle

NUM_IMAGES = (1, 4, 8)
REPORT = "PA view. Pleural effusion."


def draw(session: ReportToImage, num_images: int, partial_images: bool) -> tuple[float, float, int]:
    """Returns the seconds that a request takes, those of the processor, and how many partial pictures were seen."""
    request = GenerationRequest(report=REPORT, modality="cxr", num_images=num_images)
    began, computed, pictures = time.perf_counter(), time.process_time(), set()
    for update in session.stream(request, partial_images):
        if update.progress < 1:
            pictures.add(update.images.tobytes())
    seconds, computed = time.perf_counter() - began, time.process_time() - computed
    return seconds, computed, len(pictures) - 1  # all grey is no picture


def measure(session: ReportToImage, num_images: int, rounds: int) -> dict[str, object]:
    """Seconds with and without partial pictures, their share of the time, and how many there are in a request."""
    drawn: dict[bool, list[tuple[float, float, int]]] = {True: [], False: []}
    for number in range(rounds):
        for partial_images in (True, False) if number % 2 else (False, True):
            drawn[partial_images].append(draw(session, num_images, partial_images))
    rounds_of = list(zip(drawn[True], drawn[False], strict=True))
    found = {
        "processor seconds without": spread([without[1] for _, without in rounds_of]),
        "share of the processor": spread([1 - without[1] / beside[1] for beside, without in rounds_of]),
        "seconds without": spread([without[0] for _, without in rounds_of]),
        "share of the time": spread([1 - without[0] / beside[0] for beside, without in rounds_of]),
        "partial pictures": spread([beside[2] for beside, _ in rounds_of]),
    }
    print(
        f"{num_images} images:", *(f"{name} {shown(figures)}" for name, figures in found.items()), sep="  ", flush=True
    )
    return found


def main() -> None:
    """Prints a line for each number of images, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    session = ReportToImage(ModelBundle.load(find_bundle("mini", "cxr")))
    for num_images in NUM_IMAGES:
        draw(session, num_images, True)  # warms up
    cases = {number: measure(session, number, options.rounds) for number in NUM_IMAGES}
    told = {"threads": torch.get_num_threads(), "backend": session.backend.name, "images": cases}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
