"""What a bundle's model reads for a request; needs its description and text tokenizer, not its weights."""

from typing import Any

from arra_med.errors import GenerationError
from arra_med.generate.cautions import cautioned
from arra_med.generate.request import GenerationRequest
from arra_med.models.bundle import BundleInfo
from arra_med.records.pseudonym import Pseudonymizer, load_or_create_key
from arra_med.records.report import Prompt, report_prompt


class PromptReader:
    """Turns requests into prompts and their tokens.

    Args:
        info: Of the bundle.
        text_tokenizer: Of the bundle.
    """

    def __init__(self, info: BundleInfo, text_tokenizer: Any) -> None:
        self._info = info
        self._text_tokenizer = text_tokenizer

    def prompt(self, request: GenerationRequest) -> Prompt:
        """Returns what the model will read; its notices hold every caution for the user.

        Raises:
            GenerationError: If the bundle makes images of another modality.
            ReportError: If the report holds nothing that can become a prompt.
        """
        info = self._info
        if request.modality != info.modality:
            raise GenerationError(
                f"{request.modality} images were asked for, the bundle {info.name} makes {info.modality} images: "
                "choose the other modality or another bundle"
            )
        prompt = report_prompt(
            request.report,
            modality=request.modality,
            view=request.view,
            age_group=request.age_group,
            laterality=request.laterality,
            count_tokens=lambda text: len(self.text_ids(text)),
            max_tokens=info.layout.max_text_tokens,
        )
        return cautioned(prompt, request.modality, info.label_counts)

    def token_ids(self, prompt: Prompt) -> list[int]:
        """Returns the sequence that the image's tokens follow."""
        return self.text_prompt_ids(prompt.text)

    def text_prompt_ids(self, text: str) -> list[int]:
        """Returns the same for any prompt's text."""
        return self._info.layout.prompt_ids(self.text_ids(text))

    def text_ids(self, text: str) -> list[int]:
        """Returns the tokens of a prompt's text alone."""
        return self._info.layout.text_ids(self._text_tokenizer, text)


def keyed_hash(text: str) -> str:
    """Returns the HMAC-SHA-256 of a report or prompt under the user's pseudonym key, in hex.

    Prompts are short and much alike: a plain hash would tell whoever tries them out.

    Raises:
        ConfigError: If the key cannot be read or made.
    """
    return Pseudonymizer(load_or_create_key()).hash_of(text)
