"""The Gradio app: wiring and words only; every piece of work is done in `arra_med`."""

import os

# Read by gradio on import: no outside look-ups, whatever the environment says.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
