// Command etcd is the etcd server. It is built here because etcd's own module has replacements, which `go install`
// refuses.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
