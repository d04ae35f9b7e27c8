"""What a training configuration expects of its corpus and teacher: checked by training, and enough for a plan before."""

from pydantic import Field

from arra_med.config import StrictModel
from arra_med.corpus.tokenize import CorpusInfo
from arra_med.errors import CorpusError


class CorpusExpectation(StrictModel):
    """What a corpus must hold; what is `null` may be anything.

    Attributes:
        grid: Rows and columns of codes of one image.
        codebook_size: Codes of the image tokenizer.
        num_images: Training images, for the plan's epochs alone: a corpus may hold fewer after quarantine.
        teacher_width: Channels of the teacher's feature, where there is one teacher.
    """

    grid: tuple[int, int] | None = None
    codebook_size: int | None = Field(default=None, gt=0)
    num_images: int | None = Field(default=None, gt=0)
    teacher_width: int | None = Field(default=None, gt=0)

    def require(self, corpus: CorpusInfo, teacher_width: int | None) -> None:
        """Makes sure that corpus and teacher are of the expected shape.

        Args:
            corpus: What `corpus.json` says.
            teacher_width: Channels of the teacher's feature; None without a teacher.

        Raises:
            CorpusError: If one differs.
        """
        found = {"grid": corpus.grid, "codebook_size": corpus.codebook_size, "teacher_width": teacher_width}
        for name, value in found.items():
            expected = getattr(self, name)
            if None not in (expected, value) and expected != value:
                raise CorpusError(
                    f"{name} is {value}, the configuration expects {expected}: give the corpus and the features that it "
                    f"was written for, or change expected.{name}"
                )
