"""Whole data sets to verdict tables: in this process, or by workers of a Ray cluster."""
