"""The broker: releases model keys to attested runtimes, and logs every decision."""
