"""What a company's installation consists of, started on one machine without Docker: `python -m services up`.

Postgres holds our registry and Feast's, Redis the online vectors, Feast's feature server answers over HTTP.
`docker-compose.yml` starts the same parts from images. Tests take their servers from here too.
"""
