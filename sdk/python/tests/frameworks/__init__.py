"""The adapters inside the real frameworks, against real servers and a scripted model; see sdk/DESIGN.md. `make frameworks` runs them."""
