"""Generated colonoscopy-like frames with exact masks: `generator.render` is all that others use."""
