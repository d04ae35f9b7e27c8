"""Draws the README's contact sheet: prompts the model has not seen, fixed seeds, unselected.

    python benchmarks/contact_sheet.py --bundle mini --out docs/mini_cxr_sheet.png

Rows are prompts, columns seeds 0 to 7. The wordings are among those which no training text held.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from arra_med.generate.sampling import SamplingRules
from arra_med.generate.session import SYNTHETIC_NOTICE, GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.models.bundled import find_bundle

PROMPTS = {
    "cxr": (
        "PA view. The chest is normal in appearance.",
        "AP view. Nothing abnormal is seen.",
        "PA view. There is fluid in the pleural cavity.",
        "PA view. Enlargement of the heart.",
        "AP view. Heart size exceeds normal limits.",
        "PA view. Free air in the pleural cavity.",
        "AP view of a child. No disease is visible in the chest.",
        "The costophrenic sulcus is filled with fluid.",
    ),
    "fundus": (
        "Left eye. Normal fundus.",
        "Right eye. Normal fundus.",
        "Left eye. Moderate non proliferative retinopathy.",
        "Right eye. Proliferative diabetic retinopathy.",
        "Left eye. Glaucoma.",
        "Right eye. Pathological myopia.",
        "Left eye. Cataract.",
        "Right eye. Dry age-related macular degeneration.",
    ),
}
NUM_SEEDS = 8
LABEL_PX = 14


def main() -> None:
    """Draws and saves the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="mini", help="mini, mini-finetuned, or a folder")
    parser.add_argument("--modality", default="cxr", choices=sorted(PROMPTS))
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    bundle = ModelBundle.load(find_bundle(options.bundle, options.modality))
    session, side = ReportToImage(bundle), bundle.spec.size_px
    prompts = PROMPTS[options.modality]
    sheet = Image.new("RGB", (NUM_SEEDS * side, len(prompts) * (side + LABEL_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, report in enumerate(prompts):
        request = GenerationRequest(
            report=report,
            modality=options.modality,
            num_images=NUM_SEEDS,
            rules=SamplingRules(guidance_scale=options.guidance),
        )
        top = row * (side + LABEL_PX)
        pen.text((3, top + 1), report, fill="black")
        for column, picture in enumerate(np.asarray(session.generate(request).images)):
            sheet.paste(Image.fromarray(picture).convert("RGB"), (column * side, top + LABEL_PX))
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Description", f"{SYNTHETIC_NOTICE} Bundle {bundle.info.name} {bundle.fingerprint}, seeds 0 to 7.")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, format="PNG", pnginfo=marks)


if __name__ == "__main__":
    main()
