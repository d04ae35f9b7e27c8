"""What a run allows when files are read: every permission is off unless it is asked for, every check is on."""

from arra_med.config import StrictModel
from arra_med.imaging.quality import QualityThresholds


class ReadingRules(StrictModel):
    """The permissions of a run.

    Attributes:
        allow_for_processing: Whether DX images FOR PROCESSING (DICOM PS3.3 C.8.11.3) are read: detector signal, to
            which the maker's contrast processing was not applied. They are shown on a logarithmic scale where their
            signal is linear in X-ray intensity, and inverted where more X-rays are more signal.
        allow_burned_in: Whether images are read that declare text in their pixels (PS3.3 C.7.6.1.1.1,
            BurnedInAnnotation YES) or look like it; such text may name the patient.
        correct_orientation: Whether an image is turned or mirrored as its PatientOrientation suggests. The tag is
            unreliable in CR, and a silent mirror makes or hides dextrocardia; without it the image is only flagged.
        quality: What the quality checks still accept.
    """

    allow_for_processing: bool = False
    allow_burned_in: bool = False
    correct_orientation: bool = False
    quality: QualityThresholds = QualityThresholds()

    @property
    def accepted_quality(self) -> QualityThresholds:
        """The thresholds that hold: text in the pixels is no fault where it is allowed."""
        return self.quality.model_copy(update={"burned_in_text": None}) if self.allow_burned_in else self.quality
