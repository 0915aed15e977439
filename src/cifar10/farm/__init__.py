"""Run many trainings, or many workers of a study, on a Dask cluster; Dask is imported only then."""
