#!/bin/bash
# Builds the programs of a real Kubernetes control plane, kubelet and kube-proxy from Go's module proxy, into a cache outside of the checkout; the
# tests use them where they are there (tests/e2e/control_plane.py, kubelets.py). 5 to 16 minutes on two cores; nothing to do where it has been done.
set -eu
version=1.34.4
cache=${XDG_CACHE_HOME:-$HOME/.cache}/holdfast/kubernetes-$version
programs="kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy"
missing=""
for program in etcd $programs; do [ -x "$cache/bin/$program" ] || missing="$missing $program"; done
[ -e "$cache/complete" ] && [ -z "$missing" ] && exit 0
command -v go > /dev/null || { echo "tools/kubernetes.sh: Go is missing (1.26 or later)" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$cache/src" "$cache/bin"
cp "$here/kubernetes/go.mod" "$here/kubernetes/go.sum" "$cache/src"
cd "$cache/src"
export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS=-mod=mod
# Without these, nodes and server say that they are v0.0.0.
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags="$flags -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=${version:2:2}"
done
for program in $programs; do
  echo "building $program $version"
  nice -n 19 go build -p 2 -trimpath -ldflags "$flags" -o "$cache/bin/$program" "k8s.io/kubernetes/cmd/$program"
done
echo "building etcd"
nice -n 19 go build -p 2 -trimpath -ldflags "-s -w" -o "$cache/bin/etcd" go.etcd.io/etcd/server/v3
touch "$cache/complete"
