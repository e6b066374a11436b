"""Layer 2: conversion between payloads and messages, with a folder for each venue; no I/O."""
