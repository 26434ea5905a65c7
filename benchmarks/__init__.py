"""How fast is it? The same operations with the bare driver, aiosession and other libraries, in one run."""
