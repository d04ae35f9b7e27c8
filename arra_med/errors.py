"""What a user can be told. Every message says what was found, what was required, where, and what to do next.

No message holds an identifier, report text or a header value; closed vocabularies (a modality, a column, a transfer
syntax) may be named.
"""


class ArraMedError(Exception):
    """Something went wrong that one sentence can explain; the command ends with `exit_code`."""

    exit_code = 1


class UserError(ArraMedError):
    """The input has to change before a second try can succeed."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration file or override is not valid."""


class ManifestError(UserError):
    """A table of studies is not valid."""


class ReportError(UserError):
    """A report holds nothing that can become a prompt."""


class CardError(UserError):
    """A data source has no card, or its card is not valid."""


class StudySetError(UserError):
    """A study set is missing, incomplete or of another kind than asked for."""


class CorpusError(UserError):
    """A corpus or a feature file is missing, incomplete or belongs to other images."""


class DeidentificationError(UserError):
    """De-identified copies cannot be made, or not here."""


class EngineError(UserError):
    """A cluster cannot be reached, or its machines do not see the same files."""


class TokenizerError(UserError):
    """An image tokenizer is missing, incomplete or does not fit."""


class EncoderError(UserError):
    """A frozen encoder cannot be loaded."""


class OverlapError(UserError):
    """A judge has been near what it is to judge."""


class BundleError(UserError):
    """A model bundle is missing, incomplete or inconsistent."""


class GenerationError(UserError):
    """A generation request cannot be met."""


class SendingError(UserError):
    """Files cannot be sent, or not there."""


class EvaluationError(UserError):
    """A measurement cannot be taken of what was given."""


class ImageError(UserError):
    """An image file cannot become a canonical view.

    Attributes:
        reason: A code of a closed vocabulary (see `arra_med.imaging.read`), written to the quarantine file.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TrainingError(ArraMedError):
    """A training run had to stop; its last good checkpoint is kept."""


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its accelerator is full, in Python's or torch's words."""
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return full or any(words in str(error).lower() for words in _OUT_OF_MEMORY)
