"""Every tab, its parts, light, dark and on a phone: nothing cut off, nothing serious to axe-core in what is ours; screenshots.

ARRA_MED_SCREENSHOTS=docs/app python -m pytest tests/apps/test_look.py      writes the pictures of docs/app.md anew, with
                                                                            the bundled models
"""

import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from arra_med_apps.app import serve
from arra_med_apps.choices import ModelChoice, bundled_choices
from arra_med_apps.reader_tab import words as reader_words
from PIL import Image
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from arra_med.generate.session import GenerationRequest, ReportToImage
from arra_med.models.bundle import ModelBundle
from arra_med.models.bundled import Variant, bundled
from tests.apps.look_parts import PARTS, png, use_part

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra: test)")
pytestmark = pytest.mark.browser

TABS = ("Generate", "Explore", "Compare", "Reader study", "Data", "About")
SCREENS = {"light": (1280, 800, "light"), "dark": (1280, 800, "dark"), "phone": (390, 844, "light")}
REPORT = "FINDINGS: The heart is enlarged.\n\nIMPRESSION: Cardiomegaly."
PATIENCE_MS = 60_000
_SHOT_WIDTH_PX = 960
PICTURES = os.environ.get("ARRA_MED_SCREENSHOTS")

GRADIOS_OWN = (
    ("color-contrast", "max_value"),  # the ends of its sliders
    ("color-contrast", "min_value"),
    ("color-contrast", 'class="or '),  # the word between "Drop File Here" and "Click to Upload"
    ("nested-interactive", 'aria-label="common.upload"'),  # "Upload more" of a list of files: a button around its input
)
"""Rules that Gradio's own widgets break, and a word of those widgets; anything else is an error."""


@pytest.fixture(scope="module")
def url(choices: list[ModelChoice], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRA_MED_READER_STUDIES", str(tmp_path_factory.mktemp("kept")))
        patch.setenv("GRADIO_TEMP_DIR", os.environ.get("GRADIO_TEMP_DIR", ""))
        served = serve(bundled_choices() if PICTURES else choices, "127.0.0.1", 0, open_browser=False)
        yield served.page.local_url
        served.close()


@pytest.fixture
def browser(browser_path: str) -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=browser_path, headless=True, args=flags)
        yield chromium
        chromium.close()


def open_tab(page: Any, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.first.is_visible():  # on a phone it stands in the menu of those that do not fit
        page.locator("#am-tabs .overflow-menu > button").first.click()
        tab = page.locator("#am-tabs .overflow-dropdown button", has_text=name)
    tab.first.click()
    page.wait_for_timeout(400)


@functools.cache
def drawn(variant: Variant) -> np.ndarray:
    """Returns three pictures by a bundled model, uint8 (3, H, W)."""
    session = ReportToImage(ModelBundle.load(bundled("cxr", variant)))
    request = GenerationRequest(report="PA view. The lungs are clear.", modality="cxr", seed=3, num_images=3)
    return session.generate(request).images


@functools.cache
def drawn_dicom() -> bytes:
    """Returns a 12-bit DICOM file with a header like a hospital's and no patient: the bundled model drew the picture."""
    pixels = (
        np.asarray(Image.fromarray(drawn("arra")[0]).resize((512, 512), Image.Resampling.BICUBIC), np.uint16) * 12 + 400
    )
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    data.PatientName, data.PatientID, data.PatientBirthDate = "Nobody^Of This Name", "0000", "19000101"
    data.InstitutionName, data.StudyDate, data.Modality = "No Hospital", "20000101", "DX"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.WindowCenter, data.WindowWidth, data.ViewPosition, data.BodyPartExamined = 1930, 3060, "PA", "CHEST"
    data.PixelSpacing, data.PixelData = [0.7, 0.7], pixels.tobytes()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def fill(page: Any, name: str) -> None:
    """What a person would do first in a tab."""
    if name == "Generate":
        page.fill("#am-report textarea", REPORT)
        page.click("#am-generate")
        page.wait_for_selector("#am-gallery .gallery-item img", timeout=PATIENCE_MS)
        page.wait_for_selector("#am-generate:enabled", timeout=PATIENCE_MS)
    elif name == "Data":
        name, content = (
            ("chest.dcm", drawn_dicom()) if PICTURES else ("a.png", png(np.asarray(Image.linear_gradient("L"))))
        )
        page.set_input_files(
            "#am-drop input[type=file]", {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        )
        sync_api.expect(page.locator("#am-drop")).to_contain_text(name, timeout=PATIENCE_MS)
        page.click("#am-look")
        page.wait_for_selector("#am-look:enabled", timeout=PATIENCE_MS)
        page.wait_for_selector(".am-file", timeout=PATIENCE_MS)
    elif name == "Explore" and PICTURES:
        page.fill("#am-explore-report textarea", "PA view. The lungs are clear.")
        page.fill("#am-explore-edited textarea", "PA view. Pleural effusion on both sides.")
        page.click("#am-explore-pair")
        page.wait_for_selector("#am-explore-pair-shown .am-trio", timeout=PATIENCE_MS)
        page.wait_for_selector("#am-explore-pair:enabled", timeout=PATIENCE_MS)
    elif name == "Compare" and PICTURES:
        page.fill("#am-cmp-report textarea", "PA view. Cardiomegaly.")
        page.click("#am-cmp-go")
        page.wait_for_selector("#am-cmp-grid .am-zoomable", timeout=PATIENCE_MS)
        page.wait_for_selector("#am-cmp-go:enabled", timeout=PATIENCE_MS)
    elif name == "Reader study" and PICTURES:
        page.get_by_role("tab", name=reader_words.SET_UP, exact=True).click()
        page.locator("#am-design label", has_text="Baseline against ARRA").click()
        for arm, variant in (("baseline", "finetuned"), ("arra", "arra")):
            files = [
                {"name": f"image{number}.png", "mimeType": "image/png", "buffer": png(picture)}
                for number, picture in enumerate(drawn(variant))
            ]
            page.set_input_files(f"#am-files-{arm} input[type=file]", files)
            sync_api.expect(page.locator(f"#am-files-{arm}")).to_contain_text("image2", timeout=PATIENCE_MS)
        page.click("#am-make")
        page.locator(".am-made code").first.wait_for()
        code = page.locator(".am-made code").first.inner_text()
        page.get_by_role("tab", name=reader_words.READ, exact=True).click()
        page.locator("#am-code").locator("input, textarea").first.fill(code)
        page.click("#am-code-go")
        page.locator("#am-agree input").check()
        page.click("#am-begin")
        page.wait_for_selector("#am-read")


@pytest.fixture
def page(browser: Any, url: str, screen: str) -> Iterator[Any]:
    width, height, scheme = SCREENS[screen]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#am-generate")
    yield page
    context.close()
    assert not broken


def unfold(page: Any) -> None:
    """Opens what is folded up in the open tab, and waits until buttons that can be pressed again have their colours."""
    folded = page.locator("button.label-wrap:not(.open):visible")
    while folded.count():
        folded.first.click()
    page.wait_for_timeout(400)


def barriers(page: Any) -> list[tuple[str, str, str]]:
    """Returns rule, place and HTML of what axe-core calls serious or critical in what is ours."""
    found = axe_api.Axe().run(page).response["violations"]
    return [
        (violation["id"], " ".join(map(str, node["target"])), node["html"][:160])
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
        if not any(violation["id"] == rule and word in node["html"] for rule, word in GRADIOS_OWN)
    ]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", TABS)
def test_a_tab_fits_its_screen_and_can_be_read_by_all(page: Any, name: str, screen: str):
    open_tab(page, name)
    fill(page, name)
    page.wait_for_timeout(400)  # buttons that can be pressed again have their colours again
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    if PICTURES:
        shot = page.screenshot(full_page=True, animations="disabled")
        file = Path(PICTURES) / f"{name.lower().replace(' ', '_')}_{screen}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(io.BytesIO(shot)).convert("RGB")
        picture.thumbnail((_SHOT_WIDTH_PX, picture.height))
        picture.save(file, quality=72, optimize=True)
    unfold(page)
    assert not barriers(page)


@pytest.mark.skipif(bool(PICTURES), reason="the bundled models are slow, and the pictures are of whole tabs")
@pytest.mark.parametrize("screen", ["light", "phone"])
@pytest.mark.parametrize(("tab", "part"), PARTS)
def test_a_part_of_a_tab_fits_its_screen_and_can_be_read_by_all(page: Any, tab: str, part: str, screen: str):
    open_tab(page, tab)
    use_part(page, part)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert not barriers(page)
