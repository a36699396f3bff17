package main

import (
	_ "github.com/Masterminds/sprig/v3"
	_ "sigs.k8s.io/yaml"
)

func main() {}
