"""The five tasks of robomimic (Mandlekar et al. 2021) on robosuite 1.5."""
