"""Zhiyin 知音: a recommender engine built around language models.

The package root stays light: importing it loads neither torch nor polars. Take what you need from the
floors, for example ``from zhiyin.pipeline import Pipeline``.
"""

__version__ = "0.1.0"
