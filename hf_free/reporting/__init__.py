"""Pictures a run leaves behind: recovered images by class, loss curves, one image set as each teacher sees it.

Everything is drawn with matplotlib's object interface on the Agg canvas: no display, no global state, so that
a training loop or a server can call it from anywhere.
"""
