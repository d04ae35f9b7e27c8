"""What the licence class of a bundle asks for before its images leave the machine."""

from arra_med.errors import BundleError

CREDENTIALED = "credentialed"
ACKNOWLEDGEMENT = (
    "I have signed the data use agreement of the data this model was trained on, and I will keep its images and weights "
    "to people who have signed it too."
)


def check_acknowledged(licence_class: str, acknowledged: bool, how: str) -> None:
    """Refuses to let images of a credentialed bundle out before somebody has taken responsibility.

    Args:
        licence_class: Of the bundle.
        acknowledged: Whether the user has agreed to `ACKNOWLEDGEMENT`.
        how: What to do to agree, for the message.

    Raises:
        BundleError: If the bundle is credentialed and nobody has agreed.
    """
    if licence_class == CREDENTIALED and not acknowledged:
        raise BundleError(
            f"the model was trained on credentialed data, whose agreement limits who may see its images: {how}"
        )
