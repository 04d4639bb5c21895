"""What `benchmarks.api` compares with: FastAPI and uvicorn alone, that read an upload and forget it, or send a ready page.

python -m benchmarks.echo_app PORT PAGE_FILE
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response, UploadFile


def main() -> None:
    """Serve until told to stop."""
    page = Path(sys.argv[2]).read_bytes()
    app = FastAPI(openapi_url=None)

    @app.post("/v1/audits", status_code=202)
    async def upload(file: list[UploadFile]) -> dict[str, int]:
        return {"bytes": sum([len(await each.read()) for each in file])}

    @app.get("/v1/results")
    def results() -> Response:
        return Response(page, media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
