// Command juju merges a bundle with overlays, verifies the outcome, and prints it, by Juju's own code:
//
//	go run . bundle.yaml [OVERLAY...]
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/juju/charm/v12"
	"gopkg.in/yaml.v2"
)

func main() {
	if err := merge(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func merge(paths []string) error {
	var sources []charm.BundleDataSource
	for _, path := range paths {
		source, err := charm.LocalBundleDataSource(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		sources = append(sources, source)
	}
	bundle, err := charm.ReadAndMergeBundleData(sources...)
	if err != nil {
		return err
	}
	if err := bundle.VerifyLocal(filepath.Dir(paths[0]), nil, nil, nil); err != nil {
		var failed *charm.VerificationError
		if errors.As(err, &failed) {
			return errors.Join(failed.Errors...)
		}
		return err
	}
	return yaml.NewEncoder(os.Stdout).Encode(bundle)
}
