#!/usr/bin/env bash
# Writes src/onnx/generated/onnx_pb.ts: ONNX's messages as types, from the onnx.proto that the onnx package of PyPI brings. Needs
# pip and npm; what they install goes to a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m pip install --quiet --target "$tools/python" onnx==1.23.1 grpcio-tools==1.84.0
npm install --silent --ignore-scripts --prefix "$tools" @bufbuild/protoc-gen-es@2.17.0
PYTHONPATH="$tools/python" python3 -m grpc_tools.protoc \
  --plugin="$tools/node_modules/.bin/protoc-gen-es" \
  --es_out=src/onnx/generated --es_opt=target=ts,import_extension=js \
  -I "$tools/python/onnx" onnx.proto
sed -i '/eslint-disable/d' src/onnx/generated/onnx_pb.ts # eslint.config.js leaves the whole folder alone
