// Programs of others that `cargo xtask conformance` builds: nothing of Cutwater is written in Go.
module cutwater.dev/conformance

go 1.25.0

require (
	github.com/summerwind/h2spec v2.2.1+incompatible
	google.golang.org/grpc v1.68.0
)

require (
	github.com/fatih/color v1.19.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
)
