"""Documents in docs/ that are made by our own commands: `make documents`.

explained.py   docs/explained.md and docs/explained.zh-CN.md, from docs/sketch.py
tour.py        docs/tour.ipynb, executed
"""
