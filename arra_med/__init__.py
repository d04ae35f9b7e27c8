"""ARRA-Med: adapt a causal language model to medical images, and see what it made of them.

Research use only; not for clinical decisions. Importing the package is light: heavy libraries load inside the commands.
"""

from arra_med import torchvision_ops

__version__ = "0.1.0"

torchvision_ops.install()
