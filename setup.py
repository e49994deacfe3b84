"""Finds the packages: ncpc itself, and those under targets/ and quant/, which become ncpc.targets and ncpc.quant."""

from setuptools import find_packages, setup

MAPPED = ("targets", "quant")


def packages() -> list[str]:
    core = find_packages(include=["ncpc", "ncpc.*"], exclude=[f"ncpc.{name}*" for name in MAPPED])
    mapped = [f"ncpc.{p}" for name in MAPPED for p in find_packages(include=[name, f"{name}.*"])]
    return core + mapped


setup(packages=packages())
