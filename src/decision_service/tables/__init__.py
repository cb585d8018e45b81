"""Files of rows, Parquet or CSV, as arrays: read in bounded batches, judged by the rules of the API.

file.py     a file as batches of columns; names checked, rows numbered
cells.py    a column as numbers, instants, money or ids, and which cells are surely right
events.py   events: packed records, and every bad row with its reason
"""
