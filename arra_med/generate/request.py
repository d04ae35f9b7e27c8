"""What a user asks for, checked before anything is computed."""

from typing import Any

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from arra_med.config import StrictModel
from arra_med.errors import GenerationError
from arra_med.generate.sampling import SamplingRules
from arra_med.records.study import AgeGroup, Laterality, Modality, View

MAX_IMAGES = 256
MAX_SEED = 2**32 - 1
MAX_REPORT_CHARACTERS = 1_000_000

_NEVER_QUOTED = "report"
_QUOTED_CHARACTERS = 40


class GenerationRequest(StrictModel):
    """A report and how its images are to be made.

    Image i of a request has the seed `seed + i`, so that one image of many can be made again alone.

    Attributes:
        report: Report text, with or without section headers.
        modality: Must be the bundle's.
        view: Projection (chest); none: as the report says.
        age_group: None: as the report says, else adult.
        laterality: Eye (fundus); none: as the report says.
        num_images: Images to make.
        seed: Seed of the first image.
        rules: Guidance and sampling.

    Raises:
        GenerationError: On construction, naming every setting that is not valid.
    """

    report: str = Field(repr=False, max_length=MAX_REPORT_CHARACTERS)
    modality: Modality
    view: View | None = None
    age_group: AgeGroup | None = None
    laterality: Laterality | None = None
    num_images: int = Field(1, ge=1, le=MAX_IMAGES)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    rules: SamplingRules = SamplingRules()

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, values: Any, handler: ModelWrapValidatorHandler["GenerationRequest"]) -> "GenerationRequest":
        try:
            request = handler(values)
        except ValidationError as error:
            raise GenerationError(_sentence(error)) from None
        if request.modality == "cxr" and request.laterality is not None:
            raise GenerationError(
                "an eye was given for a chest X-ray: leave laterality out, or ask for a fundus photograph"
            )
        if request.modality == "fundus" and request.view is not None:
            raise GenerationError("a view was given for a fundus photograph: leave view out, or ask for a chest X-ray")
        return request


def request_from_settings(**settings: Any) -> GenerationRequest:
    """Builds a request from one flat set of settings, those of `SamplingRules` among them.

    Raises:
        GenerationError: As `GenerationRequest`, for the sampling rules as well.
    """
    rules = {name: settings.pop(name) for name in SamplingRules.model_fields if name in settings}
    return GenerationRequest(**settings, **({"rules": rules} if rules else {}))


def _sentence(error: ValidationError) -> str:
    return "; ".join(
        _problem(problem["loc"], problem["type"], problem["msg"], problem["input"]) for problem in error.errors()
    )


def _problem(location: tuple[int | str, ...], kind: str, message: str, found: Any) -> str:
    name = str(location[-1]) if location else "the request"
    if kind == "extra_forbidden":
        return f"{name} is no setting of a generation request"
    if kind == "missing":
        return f"{name} is missing: give it"
    required = message.removeprefix("Input should be ")
    required = required if required != message else message[0].lower() + message[1:]
    if name == _NEVER_QUOTED:
        return f"{name} is not valid: it must be {required.removeprefix('string should have ')}"
    return f"{name} is {repr(found)[:_QUOTED_CHARACTERS]}, it must be {required}"
