"""Prefect flows: order, retries and artifacts; every task body is one call into selfalign."""
