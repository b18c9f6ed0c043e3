"""The losses, advantages and metrics of the papers, one file a component, named as its paper names it."""
