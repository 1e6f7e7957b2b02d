"""Where does Hydra find our launchers and sweeper? The work is in `peftlab.sweep`."""
