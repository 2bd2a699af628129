//! caracalctl, the command line of Caracal.
