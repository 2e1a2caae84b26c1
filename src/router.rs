//! Follows the log by cursor and creates the runs that subscriptions ask for.
